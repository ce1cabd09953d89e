#!/bin/sh
# Builds the engine against the LibTorch of this machine: that of $LIBTORCH or of python3's torch. Needs g++ and cmake
# with ninja or make; for a GPU also nvcc 13 (in CUDA_HOME, /usr/local/cuda or PATH). Reaches no network.
# Options go to the build: --libtorch DIR, --cuda, --no-cuda, --jobs N.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# The programs may be there as Python packages alone.
for package in cmake ninja; do
  command -v "$package" >/dev/null 2>&1 && continue
  folder=$(python3 -c "import $package, os; print(getattr($package, 'CMAKE_BIN_DIR', None) or getattr($package, 'BIN_DIR', ''))" 2>/dev/null || true)
  if [ -n "$folder" ]; then PATH="$PATH:$folder"; fi
done
missing=
command -v cmake >/dev/null 2>&1 || missing="$missing cmake"
command -v "${CXX:-c++}" >/dev/null 2>&1 || missing="$missing g++"
command -v ninja >/dev/null 2>&1 || command -v make >/dev/null 2>&1 || missing="$missing ninja-build"
if [ -n "$missing" ]; then
  echo "install.sh: missing:$missing" >&2
  exit 1
fi
"$here/node/bin/node" "$here/scripts/native.cjs" build "$@"
"$here/node/bin/node" "$here/scripts/native.cjs" info
"$here/cream" doctor
