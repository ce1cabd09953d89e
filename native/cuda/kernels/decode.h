// The parts of a decode step that know the slots: the rows' embeddings, RoPE with the write of keys and
// values, and attention over the prompt arena and the slots.
#pragma once

#include <cstdint>

#include "cuda/kernels/sampler.h"
#include "cuda/types.h"

namespace cream::gpu {

// Where keys and values are, in device memory: a recorded graph outlives their move. Both are
// [layers, kv heads, tokens, head_dim]; the arena's tokens come first, then slot_tokens of every slot.
struct KvMemory {
  void* keys;
  void* values;
  int64_t tokens;
  int64_t arena_tokens;
  int64_t slot_tokens;
  int64_t swizzle;  // 16-byte chunk c of token t lies at chunk c XOR (t AND swizzle): 7, or 0 for in order
};

// Rows that share a prompt.
struct RowGroup {
  int32_t first_row, num_rows;
  int32_t arena;  // the prompt's first token in the arena
};
constexpr int kMaxGroupRows = 8;

// A stretch of a prompt, to be attended by rows that share the prompt.
struct PromptItem {
  int32_t first_row, num_rows;
  int32_t begin, end;  // tokens of the prompt
  int32_t arena;       // the prompt's first token in the arena
  int32_t piece;       // begin / piece length
};

// Which slots a step decodes, in device memory.
struct Schedule {
  const int32_t* num_items;  // [1]
  const int32_t* row_slots;  // [rows], -1 = none; rows of a prompt lie together
  const PromptItem* items;
  const int32_t* num_groups;  // [1]
  const RowGroup* groups;     // of all rows that may have a slot
  int32_t group_rows;         // that a group has at most, up to kMaxGroupRows
};

struct DecodeShape {
  Dtype dtype;
  int64_t rows;
  int64_t num_heads, num_kv_heads, head_dim;
  int64_t window;  // sliding window in tokens, 0 = none
  int64_t layer;
};

// Pieces: a prompt's and a response's tokens are attended in stretches of fixed length, so that what a row
// gets does not depend on the other rows.
struct DecodePieces {
  int64_t prompt_tokens, prompt_count;  // per piece, pieces of the longest prompt
  int64_t response_tokens, response_count;
  int64_t count() const { return prompt_count + response_count; }
};

constexpr int64_t kMaxDecodeHead = 256;  // head_dim

// A response that begins in a slot, before its first token.
struct SlotStart {
  int32_t slot, prompt_length, limit;
  uint32_t key[3];
};
void start_slots(const SlotStart* starts, int64_t count, const Slots& slots, Stream stream);

// x [rows, width] = embed[token of the row's slot]; zeros where the row has none.
void gather_embeddings(void* x, const void* embed, Dtype dtype, int64_t rows, int64_t width,
                       const int32_t* row_slots, const Slots& slots, Stream stream);

// Rotates the queries of qkv [rows, (Hq + 2 Hkv) D] in place, and writes the rotated keys and the values to
// the slots of the rows, at the position of their last token. table as cream::rope_table.
void rope_and_store(void* qkv, const DecodeShape& shape, const float* table, const int32_t* row_slots,
                    const Slots& slots, const KvMemory* memory, Stream stream);

// Copies row r of k and v [rows, stride] (kv heads side by side) to token places[r].
void store_keys_values(const void* k, const void* v, int64_t stride, const DecodeShape& shape,
                       const int32_t* places, const KvMemory* memory, Stream stream);

// Bytes of scratch memory for decode_attention.
int64_t decode_scratch(const DecodeShape& shape, const DecodePieces& pieces);

// Which kernel attends: tiles on tensor cores, for bfloat16 and head_dim 32, 64, 96 or 128, or multiply-adds;
// or a ring of bulk copies, which wants keys and values with swizzle 7. kAuto: tiles where they can be.
enum class AttentionKernel { kAuto, kPlain, kTiles, kRing };

// True where kRing can attend: on compute capability 9.0 and later, for bfloat16, head_dim 64 or 128 and at
// most 8 heads per key/value head.
bool has_ring_attention(const DecodeShape& shape);

// out [rows, Hq D] = attention of each row's query over its prompt and its own tokens; zeros for rows without
// a live slot. A prompt's keys and values are read once for many rows of an item.
void decode_attention(void* out, const void* qkv, const DecodeShape& shape, const DecodePieces& pieces,
                      const Schedule& schedule, const Slots& slots, const KvMemory* memory, void* scratch,
                      AttentionKernel kernel, Stream stream);

}  // namespace cream::gpu
