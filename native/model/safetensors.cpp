#include "model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "model/safetensors_json.h"

namespace cream::safetensors {

namespace {

struct DtypeInfo {
  Dtype dtype;
  std::string_view name;
  int64_t size;
};
constexpr std::array<DtypeInfo, 10> kDtypes{{{Dtype::kF64, "F64", 8},
                                             {Dtype::kF32, "F32", 4},
                                             {Dtype::kF16, "F16", 2},
                                             {Dtype::kBF16, "BF16", 2},
                                             {Dtype::kI64, "I64", 8},
                                             {Dtype::kI32, "I32", 4},
                                             {Dtype::kI16, "I16", 2},
                                             {Dtype::kI8, "I8", 1},
                                             {Dtype::kU8, "U8", 1},
                                             {Dtype::kBool, "BOOL", 1}}};

const DtypeInfo& info_of(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)]; }

Dtype parse_dtype(const std::string& name, const std::string& text) {
  for (const auto& info : kDtypes)
    if (info.name == text) return info.dtype;
  throw Error("tensor " + printable(name) + " has the unknown dtype " + printable(text));
}

// {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} in any order, each field once.
Entry parse_entry(JsonReader& json, const std::string& name) {
  Entry entry{};
  bool has_dtype = false, has_shape = false, has_offsets = false;
  const auto once = [&](bool& seen, const char* field) {
    if (seen) throw Error("tensor " + printable(name) + " has \"" + field + "\" twice");
    seen = true;
  };
  json.object([&](const std::string& field) {
    if (field == "dtype") {
      once(has_dtype, "dtype");
      entry.dtype = parse_dtype(name, json.string(64));
    } else if (field == "shape") {
      once(has_shape, "shape");
      json.array([&] {
        if (entry.shape.size() == kMaxDimensions)
          throw Error("tensor " + printable(name) + " has more than " + std::to_string(kMaxDimensions) +
                      " dimensions");
        entry.shape.push_back(static_cast<int64_t>(json.number(INT64_MAX)));
      });
    } else if (field == "data_offsets") {
      once(has_offsets, "data_offsets");
      size_t count = 0;
      json.array([&] {
        const uint64_t offset = json.number(UINT64_MAX);
        if (count < 2) (count == 0 ? entry.begin : entry.end) = offset;
        if (++count > 2) throw Error("tensor " + printable(name) + " has more than two data_offsets");
      });
      if (count != 2) throw Error("tensor " + printable(name) + " needs two data_offsets");
    } else {
      throw Error("tensor " + printable(name) + " has the unknown field " + printable(field));
    }
  });
  for (const auto& [seen, field] :
       {std::pair{has_dtype, "dtype"}, {has_shape, "shape"}, {has_offsets, "data_offsets"}})
    if (!seen) throw Error("tensor " + printable(name) + " lacks \"" + field + "\"");
  return entry;
}

void check_size(const std::string& name, const Entry& entry) {
  uint64_t bytes = static_cast<uint64_t>(size_of(entry.dtype));
  for (const int64_t size : entry.shape)
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      throw Error("the size of tensor " + printable(name) + " overflows");
  if (entry.end < entry.begin)
    throw Error("tensor " + printable(name) + " ends (" + std::to_string(entry.end) + ") before it begins (" +
                std::to_string(entry.begin) + ")");
  if (entry.end - entry.begin != bytes)
    throw Error("tensor " + printable(name) + " needs " + std::to_string(bytes) +
                " bytes by its shape and dtype, " + "its data_offsets hold " +
                std::to_string(entry.end - entry.begin));
}

// Tensors must fill the data section exactly, one after the other.
void check_layout(const Header& header, uint64_t data_bytes) {
  std::vector<const std::pair<const std::string, Entry>*> order;
  order.reserve(header.tensors.size());
  for (const auto& item : header.tensors) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t position = 0;
  for (const auto* item : order) {
    const auto& [name, entry] = *item;
    if (entry.begin != position)
      throw Error("tensor " + printable(name) + " begins at byte " + std::to_string(entry.begin) +
                  (entry.begin < position ? ", inside the tensor before it (which ends at "
                                          : ", after a gap (the tensor before it ends at ") +
                  std::to_string(position) + ")");
    position = entry.end;
    if (position > data_bytes)
      throw Error("the file is truncated: tensor " + printable(name) + " ends at byte " +
                  std::to_string(position) + " of a data section of " + std::to_string(data_bytes) +
                  " bytes");
  }
  if (position != data_bytes)
    throw Error("the data section has " + std::to_string(data_bytes) + " bytes, the tensors fill " +
                std::to_string(position));
}

std::string reason() { return std::strerror(errno); }

// Closes on every way out.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

int64_t size_of(Dtype dtype) { return info_of(dtype).size; }
std::string_view name_of(Dtype dtype) { return info_of(dtype).name; }

Header parse_header(std::string_view bytes, uint64_t file_size) {
  if (file_size < 8 || bytes.size() < 8)
    throw Error("not a safetensors file: " + std::to_string(file_size) + " bytes are too few for a header");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint8_t>(bytes[i]);
  if (length > kMaxHeaderBytes)
    throw Error("not a safetensors file: the header claims " + std::to_string(length) +
                " bytes, the limit is " + std::to_string(kMaxHeaderBytes));
  if (length > file_size - 8 || length > bytes.size() - 8)
    throw Error("the file is truncated: the header claims " + std::to_string(length) + " bytes, " +
                std::to_string(file_size - 8) + " follow");

  Header header;
  header.data_offset = 8 + length;
  JsonReader json(bytes.substr(8, length));
  bool has_metadata = false;
  json.object([&](const std::string& name) {
    if (name == "__metadata__") {
      if (has_metadata) throw Error("the header has \"__metadata__\" twice");
      has_metadata = true;
      json.object([&](const std::string& key) {
        if (!header.metadata.emplace(key, json.string(length)).second)
          throw Error("the metadata have the key " + printable(key) + " twice");
      });
      return;
    }
    if (header.tensors.size() == kMaxTensors)
      throw Error("the header has more than " + std::to_string(kMaxTensors) + " tensors");
    Entry entry = parse_entry(json, name);
    check_size(name, entry);
    if (!header.tensors.emplace(name, std::move(entry)).second)
      throw Error("the header has tensor " + printable(name) + " twice");
  });
  json.end();
  check_layout(header, file_size - header.data_offset);
  return header;
}

File::File(const std::string& path) : path_(path) {
  const auto fail = [&](const std::string& what) -> Error { return Error(path + ": " + what); };
  // O_NONBLOCK: a FIFO in the folder must not block the engine.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw fail("there is no such file");
    throw IoError(path + ": cannot be opened: " + reason());
  }
  struct stat status{};
  if (::fstat(file.fd, &status) != 0) throw IoError(path + ": " + reason());
  if (!S_ISREG(status.st_mode)) throw fail("is not a regular file");
  size_ = static_cast<uint64_t>(status.st_size);
  if (size_ < 8)
    throw fail("not a safetensors file: " + std::to_string(size_) + " bytes are too few for a header");
  void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (map == MAP_FAILED) throw IoError(path + ": cannot be mapped: " + reason());
  map_ = static_cast<const char*>(map);
  try {
    header_ = parse_header({map_, size_}, size_);
  } catch (const Error& error) {
    ::munmap(map, size_);
    throw fail(error.what());
  }
  ::madvise(map, size_, MADV_SEQUENTIAL);
}

File::~File() { ::munmap(const_cast<char*>(map_), size_); }

const char* File::data(const Entry& entry) const { return map_ + header_.data_offset + entry.begin; }

std::string json_string(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    const unsigned char byte = text[i];
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      out += "\\ufffd";
      ++i;
    } else if (byte == '"' || byte == '\\') {
      out += {'\\', static_cast<char>(byte)};
      ++i;
    } else if (byte < 0x20) {
      out += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
      ++i;
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  return out + "\"";
}

namespace {

struct Part {
  uint64_t size;
  Piece bytes;
};

void write_parts(const std::string& path, const std::vector<Part>& parts) {
  uint64_t total = 0;
  for (const auto& part : parts) total += part.size;
  const auto fail = [&] {
    const std::string why = reason();
    ::unlink(path.c_str());
    return IoError(path + ": cannot be written (" + std::to_string(total) + " bytes): " + why);
  };
  Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.fd < 0)
    throw IoError(path + ": cannot be created (" + std::to_string(total) + " bytes): " + reason());
  const auto write_all = [&](std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(file.fd, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        if (written == 0) errno = ENOSPC;
        throw fail();
      }
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  };
  for (const auto& [size, bytes] : parts) {
    for (uint64_t begin = 0; begin < size; begin += kPieceBytes)
      write_all(bytes(begin, std::min(kPieceBytes, size - begin)));
  }
  if (::fsync(file.fd) != 0) throw fail();
  const int fd = file.fd;
  file.fd = -1;
  if (::close(fd) != 0) throw fail();
}

uint64_t bytes_of(const Source& tensor) {
  uint64_t bytes = static_cast<uint64_t>(size_of(tensor.dtype));
  for (const int64_t size : tensor.shape) bytes *= static_cast<uint64_t>(size);
  return bytes;
}

std::string shard_name(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

}  // namespace

Piece in_memory(const void* data) {
  return [data](uint64_t begin, uint64_t size) {
    return std::string_view(static_cast<const char*>(data) + begin, size);
  };
}

void write_file(const std::string& path, const std::vector<std::string_view>& parts) {
  std::vector<Part> pieces;
  for (const auto& part : parts) pieces.push_back({part.size(), in_memory(part.data())});
  write_parts(path, pieces);
}

uint64_t write(const std::string& path, const std::vector<Source>& tensors,
               const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) header += json_string(key) + ":" + json_string(value) + ",";
    header.back() = '}';
  }
  std::vector<Part> parts(2);
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const uint64_t bytes = bytes_of(tensor);
    std::string shape;
    for (const int64_t size : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    if (header.size() > 1) header += ",";
    header += json_string(tensor.name) + ":{\"dtype\":\"" + std::string(name_of(tensor.dtype)) +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + bytes) + "]}";
    offset += bytes;
    parts.push_back({bytes, tensor.bytes});
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the data section starts at a multiple of 8

  std::array<char, 8> length{};
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  parts[0] = {length.size(), in_memory(length.data())};
  parts[1] = {header.size(), in_memory(header.data())};
  write_parts(path, parts);
  return 8 + header.size() + offset;
}

std::vector<std::string> write_checkpoint(const std::string& directory, const std::vector<Source>& tensors,
                                          uint64_t max_shard_bytes) {
  std::vector<std::vector<Source>> shards(1);
  uint64_t used = 0, total = 0;
  for (const Source& tensor : tensors) {
    const uint64_t bytes = bytes_of(tensor);
    if (!shards.back().empty() && used + bytes > max_shard_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(tensor);
    used += bytes;
    total += bytes;
  }
  const std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (shards.size() == 1) {
    write(directory + "/model.safetensors", shards.front(), metadata);
    return {"model.safetensors"};
  }
  std::vector<std::string> names;
  std::string index =
      "{\n  \"metadata\": {\"total_size\": " + std::to_string(total) + "},\n  \"weight_map\": {";
  for (size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shard_name(i, shards.size()));
    write(directory + "/" + names.back(), shards[i], metadata);
    for (const Source& tensor : shards[i])
      index += (index.back() == '{' ? "\n    " : ",\n    ") + json_string(tensor.name) + ": " +
               json_string(names.back());
  }
  index += "\n  }\n}\n";
  names.emplace_back("model.safetensors.index.json");
  write_file(directory + "/" + names.back(), {index});
  return names;
}

}  // namespace cream::safetensors
