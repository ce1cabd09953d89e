'use strict';
// Installs LibTorch from its Python package into the project's own cache. Nothing of Python is used at run time.

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const {
  INSTALLED_VERSION,
  MARKER,
  VERSIONS,
  cacheDirectory,
  inspect,
  installDirectory,
} = require('./libtorch.cjs');

// The Python package that carries a CUDA library, by the start of the library's name. `extra` is its name among
// the extras of "cuda-toolkit", with which newer packages pin all of them at once.
const CARRIERS = [
  { library: /^libcudart\./, packages: /^nvidia-cuda-runtime/, extra: 'cudart' },
  { library: /^libcupti\./, packages: /^nvidia-cuda-cupti/, extra: 'cupti' },
  { library: /^libnvrtc\./, packages: /^nvidia-cuda-nvrtc/, extra: 'nvrtc' },
  { library: /^libnvToolsExt\./, packages: /^nvidia-nvtx/, extra: 'nvtx' },
  { library: /^libcublas(Lt)?\./, packages: /^nvidia-cublas/, extra: 'cublas' },
  { library: /^libcufile\./, packages: /^nvidia-cufile/, extra: 'cufile' },
  { library: /^libcudnn/, packages: /^nvidia-cudnn/ },
  { library: /^libnccl\./, packages: /^nvidia-nccl/ },
];

class InstallError extends Error {}

const ADVICE =
  'Install LibTorch yourself and name it, for example: LIBTORCH=/path/to/libtorch npm run build\n' +
  `(an unzipped LibTorch folder, or the "torch" folder of a Python installation, versions ${VERSIONS}).`;

function run(command, args, environment = {}) {
  // The tools' output goes to stderr, so that stdout stays clean for programs.
  return (
    spawnSync(command, args, { stdio: ['ignore', 2, 2], env: { ...process.env, ...environment } }).status ===
    0
  );
}

const quiet = (command, args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** A Python that has pip: a private virtual environment, or the system's own where that cannot be made. */
function pythonWithPip(work) {
  if (!quiet('python3', ['--version'])) {
    throw new InstallError(`python3 was not found; it is needed once, to download LibTorch.\n${ADVICE}`);
  }
  const environment = path.join(work, 'venv');
  if (quiet('python3', ['-m', 'venv', environment])) return path.join(environment, 'bin', 'python');
  fs.rmSync(environment, { recursive: true, force: true });
  if (quiet('python3', ['-m', 'pip', '--version'])) return 'python3';
  throw new InstallError(
    `python3 has neither venv nor pip (Debian: apt-get install python3-venv).\n${ADVICE}`,
  );
}

function pipInstall(python, site, work, requirements, options = []) {
  const args = [
    '-m',
    'pip',
    'install',
    '--disable-pip-version-check',
    '--no-input',
    '--no-warn-script-location',
  ];
  args.push('--upgrade', '--target', site, ...options, ...requirements);
  // pip unpacks in TMPDIR and moves: the same file system makes that free, and /tmp may be small.
  if (!run(python, args, { TMPDIR: work, PIP_ROOT_USER_ACTION: 'ignore' })) {
    const what = requirements.join(' ');
    throw new InstallError(
      `pip could not install ${what} (its message is above: no network, or no such version).\n${ADVICE}`,
    );
  }
}

/** The Requires-Dist lines of the installed torch package, without their conditions. */
function torchRequirements(site) {
  const folder = fs.readdirSync(site).find((name) => /^torch-.*\.dist-info$/.test(name));
  if (folder === undefined) return [];
  const text = fs.readFileSync(path.join(site, folder, 'METADATA'), 'utf8');
  return [...text.matchAll(/^Requires-Dist: ([^;\n]+)/gm)].map(([, requirement]) => requirement.trim());
}

/** The packages that carry the missing libraries, at the versions which the torch package asks for. */
function requirementsFor(missing, requirements) {
  const toolkit = requirements.find((line) => line.startsWith('cuda-toolkit'));
  const found = new Set();
  const extras = new Set();
  for (const { name } of missing) {
    const carrier = CARRIERS.find(({ library }) => library.test(name));
    const pinned = carrier && requirements.find((line) => carrier.packages.test(line));
    if (pinned) found.add(pinned);
    else if (carrier?.extra && toolkit) extras.add(carrier.extra);
    else throw new InstallError(`LibTorch needs ${name}, and no package is known to carry it.\n${ADVICE}`);
  }
  if (extras.size > 0) found.add(toolkit.replace(/\[[^\]]*\]/, `[${[...extras].join(',')}]`));
  return [...found];
}

/** Installs into a temporary folder and renames it: an interrupted installation leaves nothing that counts. */
function install(log) {
  const final = installDirectory();
  const work = `${final}.partial-${process.pid}`;
  removePartial(cacheDirectory(), log);
  fs.mkdirSync(work, { recursive: true });
  try {
    const site = path.join(work, 'site');
    log(`installing LibTorch ${INSTALLED_VERSION} into ${final} (a download of 0.2 to 0.6 GB, once)`);
    const python = pythonWithPip(work);
    pipInstall(python, site, work, [`torch==${INSTALLED_VERSION}`], ['--no-deps']);

    let { reason, missing } = inspect(path.join(site, 'torch'));
    if (missing !== undefined) {
      const requirements = requirementsFor(missing, torchRequirements(site));
      log(`installing the libraries that it needs and lacks: ${requirements.join(' ')}`);
      pipInstall(python, site, work, requirements);
      ({ reason, missing } = inspect(path.join(site, 'torch')));
    }
    if (reason !== undefined)
      throw new InstallError(`the installed LibTorch cannot be used: ${reason}.\n${ADVICE}`);

    fs.writeFileSync(path.join(site, MARKER), `${JSON.stringify({ version: INSTALLED_VERSION })}\n`);
    if (!fs.existsSync(path.join(final, MARKER))) {
      fs.rmSync(final, { recursive: true, force: true });
      fs.renameSync(site, final);
    } // else another process finished first, and its copy may be in use
    return path.join(final, 'torch');
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** Removes what interrupted installations of dead processes left behind. */
function removePartial(cache, log) {
  if (!fs.existsSync(cache)) return;
  for (const name of fs.readdirSync(cache)) {
    const pid = Number(name.match(/\.partial-(\d+)$/)?.[1]);
    if (!pid || isAlive(pid)) continue;
    log(`removing an interrupted installation (${name})`);
    fs.rmSync(path.join(cache, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

module.exports = { InstallError, install, isAlive };
