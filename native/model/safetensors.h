// The safetensors format (https://github.com/huggingface/safetensors#format): a bounded, LibTorch-free parser
// for hostile files, and a writer. Offsets are 64-bit and checked: no overlap, gap, overflow or duplicate.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cream::safetensors {

// The file is not what it should be.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The file system refused: no space, no permission, a failing disk.
struct IoError : Error {
  using Error::Error;
};

enum class Dtype { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };
int64_t size_of(Dtype dtype);
std::string_view name_of(Dtype dtype);

struct Entry {
  Dtype dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // byte range in the data section
};

struct Header {
  std::map<std::string, Entry> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t data_offset = 0;  // of the data section in the file
};

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr size_t kMaxTensors = 1'000'000;
inline constexpr size_t kMaxDimensions = 8;
inline constexpr size_t kMaxNameBytes = 1024;

// `bytes` holds at least the first 8 + header length bytes of a file of `file_size` bytes. Throws Error with
// what is wrong and where. Memory is bounded by a small multiple of the header, whatever it says.
Header parse_header(std::string_view bytes, uint64_t file_size);

// A file mapped read-only. Messages of Error begin with the path.
class File {
 public:
  explicit File(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  const Header& header() const { return header_; }
  const std::string& path() const { return path_; }
  // The tensor's bytes; no alignment is promised.
  const char* data(const Entry& entry) const;

 private:
  std::string path_;
  Header header_;
  const char* map_ = nullptr;
  uint64_t size_ = 0;
};

// The bytes [begin, begin + size) of something that may not be in memory as a whole; valid until the next
// call.
using Piece = std::function<std::string_view(uint64_t begin, uint64_t size)>;
// Pieces have at most so many bytes, a multiple of every element's size.
inline constexpr uint64_t kPieceBytes = uint64_t{16} << 20;

// Of something that is: `data` outlives the piece.
Piece in_memory(const void* data);

struct Source {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
  Piece bytes;  // contiguous
};

// Writes, flushes to disk (fsync) and closes; the caller renames. Returns the number of bytes. A failed write
// throws IoError with path, bytes needed and the system's reason, and removes what it wrote.
uint64_t write(const std::string& path, const std::vector<Source>& tensors,
               const std::map<std::string, std::string>& metadata);

// Writes a checkpoint's weights into `directory`: one file "model.safetensors", or shards
// "model-0000i-of-0000n.safetensors" of at most max_shard_bytes (a larger tensor has one of its own) and
// "model.safetensors.index.json". Returns the names of the files.
std::vector<std::string> write_checkpoint(const std::string& directory, const std::vector<Source>& tensors,
                                          uint64_t max_shard_bytes);

// The same as write for any content, as the index of a sharded checkpoint.
void write_file(const std::string& path, const std::vector<std::string_view>& parts);

// `text` as a JSON string, with its quotes. Not valid UTF-8 is escaped byte by byte as U+FFFD.
std::string json_string(std::string_view text);

}  // namespace cream::safetensors
