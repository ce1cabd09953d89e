#include "ops/pack_tables.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "ops/upload.h"

namespace cream::gpu {

namespace {

struct HostTables {
  std::vector<int32_t> query_starts{0}, key_starts{0}, key_rows, copy_starts, copies;
};

void add_rows(std::vector<int32_t>& rows, const Segment& segment) {
  const size_t before = rows.size();
  rows.resize(before + static_cast<size_t>(segment.length));
  std::iota(rows.begin() + static_cast<std::ptrdiff_t>(before), rows.end(),
            static_cast<int32_t>(segment.row));
}

HostTables host_tables(const Pack& pack) {
  HostTables host;
  for (const Segment& segment : pack.segments) {
    if (segment.prefix >= 0) add_rows(host.key_rows, pack.segments[static_cast<size_t>(segment.prefix)]);
    add_rows(host.key_rows, segment);
    host.query_starts.push_back(static_cast<int32_t>(segment.row + segment.length));
    host.key_starts.push_back(static_cast<int32_t>(host.key_rows.size()));
  }
  // Rows by counting, keys in order within each: a stable sort of the keys by their row.
  host.copy_starts.assign(static_cast<size_t>(pack.num_rows()) + 1, 0);
  for (const int32_t row : host.key_rows) ++host.copy_starts[static_cast<size_t>(row) + 1];
  std::partial_sum(host.copy_starts.begin(), host.copy_starts.end(), host.copy_starts.begin());
  std::vector<int32_t> next(host.copy_starts.begin(), host.copy_starts.end() - 1);
  host.copies.resize(host.key_rows.size());
  for (size_t key = 0; key < host.key_rows.size(); ++key) {
    host.copies[static_cast<size_t>(next[static_cast<size_t>(host.key_rows[key])]++)] =
        static_cast<int32_t>(key);
  }
  return host;
}

int64_t longest(const std::vector<int32_t>& starts) {
  int32_t length = 0;
  for (size_t i = 0; i + 1 < starts.size(); ++i) length = std::max(length, starts[i + 1] - starts[i]);
  return length;
}

// Tables one after another in one buffer, so that one copy brings them all. The int64 ones come first: every
// view is aligned then.
class Bundle {
 public:
  template <typename T>
  void add(at::Tensor& table, const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    parts_.push_back({&table, bytes_.size(), bytes, c10::CppTypeToScalarType<T>::value});
    bytes_.resize(bytes_.size() + bytes);
    if (bytes > 0) std::memcpy(bytes_.data() + parts_.back().begin, values.data(), bytes);
  }
  void send(at::Device device) const {
    const at::Tensor all = upload_bytes(bytes_.data(), bytes_.size(), device);
    for (const Part& part : parts_) {
      *part.table =
          all.narrow(0, static_cast<int64_t>(part.begin), static_cast<int64_t>(part.bytes)).view(part.type);
    }
  }

 private:
  struct Part {
    at::Tensor* table;
    size_t begin, bytes;
    at::ScalarType type;
  };
  std::vector<unsigned char> bytes_;
  std::vector<Part> parts_;
};

}  // namespace

const PackTables& tables_of(const Pack& pack, at::Device device) {
  if (pack.tables != nullptr) return *pack.tables;
  const HostTables host = host_tables(pack);
  auto tables = std::make_shared<PackTables>();
  Bundle bundle;
  bundle.add(tables->ids, pack.ids);
  bundle.add(tables->head_rows, pack.head_rows);
  bundle.add(tables->positions, pack.positions);
  bundle.add(tables->query_starts, host.query_starts);
  bundle.add(tables->key_starts, host.key_starts);
  bundle.add(tables->copy_starts, host.copy_starts);
  bundle.add(tables->copies, host.copies);
  tables->num_keys = static_cast<int64_t>(host.key_rows.size());
  if (tables->num_keys > pack.num_rows()) bundle.add(tables->key_rows, host.key_rows);
  bundle.send(device);
  tables->max_queries = longest(host.query_starts);
  tables->max_keys = longest(host.key_starts);
  pack.tables = tables;
  return *pack.tables;
}

}  // namespace cream::gpu
