#include "model/adapter.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <cmath>

#include "ops/philox.h"

namespace cream {

namespace {

constexpr int64_t kAlignment = 32;  // elements; as in model/weights.cpp

struct Member {
  Projection projection;
  int64_t begin, size;  // columns of the merged product
  int64_t row = 0;      // first row of the merged a
  LoraFactor factor{};
};

struct SiteShape {
  LoraSite LoraLayer::* site;
  int64_t in;
  std::vector<Member> members;
};

std::vector<SiteShape> site_shapes(const ModelConfig& config) {
  const int64_t width = config.hidden_size, q = config.q_size(), kv = config.kv_size(),
                ffn = config.intermediate_size;
  return {
      {&LoraLayer::qkv,
       width,
       {{Projection::kQ, 0, q}, {Projection::kK, q, kv}, {Projection::kV, q + kv, kv}}},
      {&LoraLayer::o, q, {{Projection::kO, 0, width}}},
      {&LoraLayer::gate_up, width, {{Projection::kGate, 0, ffn}, {Projection::kUp, ffn, ffn}}},
      {&LoraLayer::down, ffn, {{Projection::kDown, 0, width}}},
  };
}

std::string module_of(Projection projection) {
  const bool in_attention = projection <= Projection::kO;
  return std::string(in_attention ? "self_attn." : "mlp.") + name_of(projection);
}

// Visits every matrix in flat order: matrix(layer, projection or nothing for a, offset, shape, is_a).
template <typename TakeA, typename TakeB>
int64_t lay_out(const ModelConfig& config, const LoraOptions& options, const TakeA& take_a,
                const TakeB& take_b) {
  int64_t used = 0;
  const auto advance = [&](int64_t size) {
    const int64_t begin = used;
    used += (size + kAlignment - 1) / kAlignment * kAlignment;
    return begin;
  };
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const SiteShape& shape : site_shapes(config)) {
      std::vector<Member> members;
      int64_t rows = 0;
      for (Member member : shape.members) {
        member.factor = options.factor(layer, member.projection);
        if (member.factor.rank == 0) continue;
        member.row = rows;
        rows += member.factor.rank;
        members.push_back(member);
      }
      if (members.empty()) continue;
      take_a(layer, shape, members, advance(rows * shape.in));
      for (const Member& member : members)
        take_b(layer, shape, member, advance(member.size * member.factor.rank));
    }
  }
  return used;
}

std::vector<LoraLayer> views_of(const ModelConfig& config, const LoraOptions& options, const at::Tensor& flat,
                                int64_t& num_parameters) {
  std::vector<LoraLayer> layers(config.num_layers);
  num_parameters = 0;
  const auto view = [&](int64_t offset, int64_t rows, int64_t columns) {
    num_parameters += rows * columns;
    return flat.narrow(0, offset, rows * columns).view({rows, columns});
  };
  lay_out(
      config, options,
      [&](int64_t layer, const SiteShape& shape, const std::vector<Member>& members, int64_t offset) {
        const Member& last = members.back();
        (layers[layer].*shape.site).a = view(offset, last.row + last.factor.rank, shape.in);
      },
      [&](int64_t layer, const SiteShape& shape, const Member& member, int64_t offset) {
        (layers[layer].*shape.site)
            .parts.push_back({view(offset, member.size, member.factor.rank), member.begin, member.row,
                              options.scale(member.factor)});
      });
  return layers;
}

void check(const ModelConfig& config, const LoraOptions& options) {
  TORCH_CHECK_VALUE(options.rank >= 1, "lora: rank must be >= 1, got ", options.rank);
  TORCH_CHECK_VALUE(std::isfinite(options.alpha) && options.alpha > 0, "lora: alpha must be above 0, got ",
                    options.alpha);
  TORCH_CHECK_VALUE(options.dropout >= 0 && options.dropout < 1, "lora: dropout must be in [0, 1), got ",
                    options.dropout);
  TORCH_CHECK_VALUE(
      options.modules.empty() || options.modules.size() == static_cast<size_t>(config.num_layers),
      "lora: modules must be of ", config.num_layers, " layers, got ", options.modules.size());
  bool any = false;
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    for (size_t i = 0; i < kNumProjections; ++i)
      any = any || options.factor(layer, static_cast<Projection>(i)).rank > 0;
  TORCH_CHECK_VALUE(any, "lora: there must be at least one target module");
}

}  // namespace

const char* name_of(Projection projection) {
  constexpr const char* kNames[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                    "gate_proj", "up_proj", "down_proj"};
  return kNames[static_cast<size_t>(projection)];
}

LoraFactor LoraOptions::factor(int64_t layer, Projection projection) const {
  const auto index = static_cast<size_t>(projection);
  if (!modules.empty()) return modules[static_cast<size_t>(layer)][index];
  return targets[index] ? LoraFactor{rank, alpha} : LoraFactor{};
}

double LoraOptions::scale(const LoraFactor& factor) const {
  const auto width = static_cast<double>(factor.rank);
  return factor.alpha / (rank_stabilized ? std::sqrt(width) : width);
}

Adapter make_adapter(const ModelConfig& config, const LoraOptions& options, at::ScalarType dtype,
                     at::Device device) {
  check(config, options);
  const auto nothing = [](auto&&...) {};
  const int64_t size = lay_out(config, options, nothing, nothing);
  Adapter adapter;
  adapter.options = options;
  adapter.flat = at::zeros({size}, at::TensorOptions().dtype(dtype).device(device));
  adapter.master =
      dtype == at::kFloat ? adapter.flat : at::zeros({size}, adapter.flat.options().dtype(at::kFloat));
  adapter.layers = views_of(config, options, adapter.flat, adapter.num_parameters);
  return adapter;
}

std::shared_ptr<Adapter> copied(const Adapter& adapter, const ModelConfig& config) {
  auto copy = std::make_shared<Adapter>(
      make_adapter(config, adapter.options, adapter.flat.scalar_type(), adapter.flat.device()));
  copy->master.copy_(adapter.master);
  round_master(*copy);
  return copy;
}

void init_adapter(Adapter& adapter, uint64_t seed) {
  const std::array<uint32_t, 2> key{uint32_t(seed), uint32_t(seed >> 32)};
  adapter.master.zero_();
  for (LoraLayer& layer : adapter.layers) {
    for (LoraSite* site : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      if (!site->a.defined()) continue;
      const int64_t offset = site->a.storage_offset() - adapter.flat.storage_offset();
      const double bound = 1.0 / std::sqrt(static_cast<double>(site->a.size(1)));
      const at::Tensor values = at::empty({site->a.numel()}, at::kFloat);
      float* out = values.data_ptr<float>();
      for (int64_t i = 0; i < values.numel(); ++i) {
        const auto index = static_cast<uint64_t>(offset + i);
        const auto bits = philox({uint32_t(index), uint32_t(index >> 32), 0x10AA, 0}, key);
        out[i] = static_cast<float>(bound * (2.0 * double(uniform_open(bits[0])) - 1.0));
      }
      adapter.master.narrow(0, offset, values.numel()).copy_(values);
    }
  }
  round_master(adapter);
}

void round_master(Adapter& adapter) {
  if (!adapter.flat.is_same(adapter.master)) adapter.flat.copy_(adapter.master);
}

std::vector<AdaptedMatrix> adapted_matrices(const Adapter& adapter, const ModelConfig& config,
                                            const at::Tensor& flat) {
  std::vector<AdaptedMatrix> matrices;
  size_t site_begin = 0;  // the site's first matrix
  lay_out(
      config, adapter.options,
      [&](int64_t layer, const SiteShape& shape, const std::vector<Member>& members, int64_t offset) {
        site_begin = matrices.size();
        for (const auto& [projection, begin, size, row, factor] : members) {
          matrices.push_back(
              {"model.layers." + std::to_string(layer) + "." + module_of(projection),
               flat.narrow(0, offset + row * shape.in, factor.rank * shape.in).view({factor.rank, shape.in}),
               {},
               adapter.options.scale(factor)});
        }
      },
      [&](int64_t, const SiteShape&, const Member& member, int64_t offset) {
        const int64_t rank = member.factor.rank;
        matrices[site_begin++].b = flat.narrow(0, offset, member.size * rank).view({member.size, rank});
      });
  return matrices;
}

std::vector<NamedTensor> peft_tensors(const Adapter& adapter, const ModelConfig& config,
                                      const at::Tensor& flat) {
  std::vector<NamedTensor> tensors;
  for (const auto& [module, a, b, scale] : adapted_matrices(adapter, config, flat)) {
    tensors.push_back({"base_model.model." + module + ".lora_A.weight", a});
    tensors.push_back({"base_model.model." + module + ".lora_B.weight", b});
  }
  return tensors;
}

}  // namespace cream
