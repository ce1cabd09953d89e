#include "model/read_tensors.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <set>

#include "ops/dispatch.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

using safetensors::Dtype;
using safetensors::Error;

constexpr size_t kListed = 5;  // tensors named in one message

std::string listing(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kListed); ++i) text += (i > 0 ? ", " : "") + items[i];
  if (items.size() > kListed) text += " and " + std::to_string(items.size() - kListed) + " more";
  return text;
}

float read_element(Dtype dtype, const char* bytes, int64_t i) {
  if (dtype == Dtype::kF32) {
    float value;
    std::memcpy(&value, bytes + 4 * i, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + 2 * i, 2);
  return dtype == Dtype::kBF16 ? to_float(c10::BFloat16(bits, c10::BFloat16::from_bits()))
                               : static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
}

bool is_finite(float value) { return (std::bit_cast<uint32_t>(value) & 0x7F800000u) != 0x7F800000u; }

// Converts elements [begin, end); false when one of the results is NaN or infinite.
template <Dtype kSource, typename T>
bool convert_range(const char* bytes, T* out, int64_t begin, int64_t end) {
  uint32_t bad = 0;
#pragma omp simd reduction(| : bad)
  for (int64_t i = begin; i < end; ++i) {
    out[i] = from_float<T>(read_element(kSource, bytes, i));
    bad |= static_cast<uint32_t>(!is_finite(to_float(out[i])));
  }
  return bad == 0;
}

template <typename T>
bool convert_range(Dtype source, const char* bytes, T* out, int64_t begin, int64_t end) {
  if (source == Dtype::kF32) return convert_range<Dtype::kF32>(bytes, out, begin, end);
  if (source == Dtype::kBF16) return convert_range<Dtype::kBF16>(bytes, out, begin, end);
  return convert_range<Dtype::kF16>(bytes, out, begin, end);
}

}  // namespace

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

std::map<std::string, Found> find_tensors(const std::vector<std::unique_ptr<safetensors::File>>& files) {
  std::map<std::string, Found> found;
  for (const auto& file : files)
    for (const auto& [name, entry] : file->header().tensors) {
      const auto [place, is_new] = found.emplace(name, Found{file.get(), &entry});
      if (!is_new)
        throw Error("tensor " + name + " is in " + place->second.file->path() + " and again in " +
                    file->path());
    }
  return found;
}

void check_tensors(const std::map<std::string, Found>& found, const std::vector<NamedTensor>& wanted,
                   bool (*may_be_there)(const std::string& name, bool is_tied), bool is_tied,
                   const std::string& where, const char* config) {
  std::vector<std::string> missing, unexpected, misshapen;
  std::set<std::string> known;
  for (const auto& [name, view] : wanted) {
    known.insert(name);
    const auto place = found.find(name);
    if (place == found.end()) {
      missing.push_back(name + " " + shape_text(view.sizes()));
    } else if (view.sizes() != at::IntArrayRef(place->second.entry->shape)) {
      misshapen.push_back(name + " has shape " + shape_text(place->second.entry->shape) + ", expected " +
                          shape_text(view.sizes()));
    }
  }
  for (const auto& [name, place] : found)
    if (!known.contains(name) && !may_be_there(name, is_tied))
      unexpected.push_back(safetensors::json_string(name) + " " + shape_text(place.entry->shape));
  std::string text;
  const auto report = [&](const char* what, const std::vector<std::string>& items) {
    if (!items.empty()) text += (text.empty() ? "" : "; ") + std::string(what) + listing(items);
  };
  report("misshapen: ", misshapen);
  report("missing: ", missing);
  report("not part of the architecture: ", unexpected);
  if (!text.empty()) throw Error(where + ": the tensors do not match " + config + ": " + text);
}

void read_tensor(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
                 at::Tensor out) {
  read_elements(file, name, entry, 0, std::move(out));
}

void read_elements(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
                   int64_t begin, at::Tensor out) {
  if (entry.dtype != Dtype::kF32 && entry.dtype != Dtype::kBF16 && entry.dtype != Dtype::kF16)
    throw Error(file.path() + ": tensor " + name + " has dtype " +
                std::string(safetensors::name_of(entry.dtype)) +
                "; weights must be F32, BF16 or F16 (quantised checkpoints are not supported)");
  const char* bytes = file.data(entry) + begin * safetensors::size_of(entry.dtype);
  std::atomic<bool> finite{true};
  with_dtype(out.scalar_type(), "load_model", [&](auto zero) {
    using T = decltype(zero);
    T* values = out.data_ptr<T>();
    at::parallel_for(0, out.numel(), 1 << 16, [&](int64_t from, int64_t to) {
      if (!convert_range(entry.dtype, bytes, values, from, to)) finite = false;
    });
    if (finite) return;
    for (int64_t i = 0; i < out.numel(); ++i) {
      if (is_finite(to_float(values[i]))) continue;
      const float value = read_element(entry.dtype, bytes, i);
      throw Error(file.path() + ": tensor " + name + ": element " + std::to_string(begin + i) + " of " +
                  shape_text(entry.shape) + " is " + std::to_string(value) +
                  (is_finite(value) ? ", which does not fit the requested dtype" : ""));
    }
  });
}

}  // namespace cream
