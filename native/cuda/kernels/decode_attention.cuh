// What the kernels of decode attention share: their arguments, and the items that blocks take.
#pragma once

#include "cuda/kernels/common.cuh"
#include "cuda/kernels/decode.h"

namespace cream::gpu {

constexpr int kAttentionThreads = 128;

struct AttentionCall {
  Schedule schedule;
  Slots slots;
  const KvMemory* memory;
  DecodePieces pieces;
  int64_t layer;
  float* mixed;  // [rows, pieces, heads, head_dim] weighted sums of values
  float* sums;   // [rows, pieces, heads, 2] maximum of the scores, sum of exp(score - maximum)
  int32_t rows, heads, kv_heads, head_dim, window, num_pieces;
  float scale;
};

// A stretch of a prompt with the rows that share it, or a stretch of one row's own tokens.
struct AttentionItem {
  int first_row, num_rows;
  int64_t place;   // of the first token in the cache
  int begin, end;  // tokens; 0 is the first of the prompt or of the response
  int piece;
};

// The slot of a row whose response is live, else -1.
__device__ __forceinline__ int live_slot(const AttentionCall& call, int row) {
  const int slot = call.schedule.row_slots[row];
  return slot >= 0 && call.slots.state[slot] == static_cast<int32_t>(SlotState::kLive) ? slot : -1;
}

// Item number `index`: prompt items first. An item without tokens has begin = end.
__device__ __forceinline__ AttentionItem item_at(const AttentionCall& call, int64_t index, int num_items) {
  if (index < num_items) {
    const PromptItem item = call.schedule.items[index];
    return {item.first_row, item.num_rows, item.arena, item.begin, item.end, item.piece};
  }
  const int row = static_cast<int>((index - num_items) % call.rows);
  const int piece = static_cast<int>((index - num_items) / call.rows);
  const int slot = live_slot(call, row);
  if (slot < 0) return {row, 1, 0, 0, 0, 0};
  const int begin = piece * static_cast<int>(call.pieces.response_tokens);
  const int limit = begin + static_cast<int>(call.pieces.response_tokens);
  const int count = call.slots.count[slot];
  return {row,
          1,
          call.memory->arena_tokens + slot * call.memory->slot_tokens,
          begin,
          count > begin ? (count < limit ? count : limit) : begin,
          static_cast<int>(call.pieces.prompt_count) + piece};
}

// The first token of an item that the response in `slot` sees; item.end where it sees none.
__device__ __forceinline__ int visible_from(const AttentionCall& call, const AttentionItem& item, int slot,
                                            bool own) {
  if (slot < 0) return item.end;
  const int prompt = call.slots.prompt_length[slot], length = prompt + call.slots.count[slot];
  const int first = call.window > 0 && length > call.window ? length - call.window : 0;
  const int of_item = own ? first - prompt : first;
  return of_item > item.begin ? (of_item < item.end ? of_item : item.end) : item.begin;
}

// Query q of an item is head q % (heads per key/value head) of row q / (heads per key/value head).
struct AttentionQuery {
  int row, head;
};
__device__ __forceinline__ AttentionQuery query_at(const AttentionCall& call, const AttentionItem& item,
                                                   int kv_head, int q) {
  const int per_kv = call.heads / call.kv_heads;
  return {item.first_row + q / per_kv, kv_head * per_kv + q % per_kv};
}

// Merges the results of `parts` softmaxes over an item's tokens, [dim + 2] floats each: the mixed values, the
// maximum and the sum. Writes column c of query q to the piece's place.
__device__ __forceinline__ void merge_parts(const AttentionCall& call, const AttentionItem& item, int kv_head,
                                            int q, int c, const float* first, int parts, int stride) {
  const int dim = call.head_dim;
  float best = -INFINITY;
  for (int p = 0; p < parts; ++p) best = fmaxf(best, first[p * stride + dim]);
  float mixed = 0, sum = 0;
  for (int p = 0; p < parts && best > -INFINITY; ++p) {
    const float* part = first + p * stride;
    const float factor = expf(part[dim] - best);
    mixed += part[c] * factor;
    sum += part[dim + 1] * factor;
  }
  const AttentionQuery query = query_at(call, item, kv_head, q);
  const int64_t to =
      (static_cast<int64_t>(query.row) * call.num_pieces + item.piece) * call.heads + query.head;
  call.mixed[to * dim + c] = mixed;
  if (c == 0) {
    call.sums[to * 2] = best;
    call.sums[to * 2 + 1] = sum;
  }
}

// The pieces of bfloat16 queries and keys by products of tiles (decode_attention_mma.cu).
bool has_tile_attention(const DecodeShape& shape, bool aligned);
void start_tile_attention(const AttentionCall& call, const void* qkv, dim3 grid, Stream stream);

// Attention by a ring of bulk copies (decode_attention_ring.cu), from queries to out.
void start_ring_attention(const AttentionCall& call, const void* qkv, void* out, Stream stream);

}  // namespace cream::gpu
