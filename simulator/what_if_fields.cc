#include "simulator/what_if_fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/model_config.h"
#include "core/units_text.h"
#include "simulator/random_draws.h"

namespace msmoe::simulator {
namespace {

using Field = ScenarioField;

// ---- Fields of the model

Field model_field(const char* name, const char* help, IntegerRange range,
                  const std::function<void(Model&, std::int64_t)>& set) {
  return {name, help, [=](Scenario& scenario, const std::string& value) {
            const std::int64_t number = parse_count(value, {"", name});
            if (number < range.min || number > range.max)
              throw UserError("", name, fmt::format("'{}' is not allowed", excerpt(value)),
                              fmt::format("allowed: {} to {}", range.min, range.max));
            set(scenario.model, number);
          }};
}

// Sets a field of all layers that have it. REQUIRES: `set` returns false for a kind that has none.
Field layer_field(const char* name, const char* help, IntegerRange range,
                  const std::function<bool(LayerKind&, std::int64_t)>& set) {
  return model_field(name, help, range, [=](Model& model, std::int64_t number) {
    bool found = false;
    for (LayerKind& kind : model.kinds) found = set(kind, number) || found;
    if (!found) throw UserError("", name, fmt::format("no layer of {} has such a width or count", model.name));
  });
}

Field expert_field(const char* name, const char* help, IntegerRange range, std::int64_t FeedForward::*member) {
  return layer_field(name, help, range, [=](LayerKind& kind, std::int64_t number) {
    if (kind.feed_forward.is_moe()) kind.feed_forward.*member = number;
    return kind.feed_forward.is_moe();
  });
}

void set_hidden(Model& model, std::int64_t hidden) {
  const auto scale = [&](std::int64_t& parameters) {
    parameters = parameters / model.hidden * hidden + parameters % model.hidden;
  };
  for (LayerKind& kind : model.kinds) scale(kind.norm_parameters);
  scale(model.final_norm_parameters);
  model.hidden = hidden;
}

// A longer model goes on as its second half does, however its kinds alternate there.
void set_layers(Model& model, std::int64_t count) {
  const std::vector<int> layers = model.layers;
  const std::size_t half = layers.size() / 2;
  std::size_t period = 1;
  while (period < half && !std::equal(layers.begin() + static_cast<std::ptrdiff_t>(half + period), layers.end(),
                                      layers.begin() + static_cast<std::ptrdiff_t>(half)))
    ++period;
  model.layers.resize(std::min(static_cast<std::size_t>(count), layers.size()));
  while (model.layers.size() < static_cast<std::size_t>(count))
    model.layers.push_back(model.layers[model.layers.size() - period]);
}

bool set_heads(LayerKind& kind, std::int64_t heads) {
  Attention& attention = kind.attention;
  if (attention.kind != AttentionKind::kGrouped && attention.kind != AttentionKind::kLatent) return false;
  if (attention.kind == AttentionKind::kLatent || attention.kv_heads == attention.heads) attention.kv_heads = heads;
  attention.heads = heads;
  return true;
}

bool set_grouped(LayerKind& kind, std::int64_t Attention::*member, std::int64_t number) {
  if (kind.attention.kind != AttentionKind::kGrouped) return false;
  kind.attention.*member = number;
  return true;
}

bool set_latent(LayerKind& kind, std::int64_t Attention::*member, std::int64_t number) {
  if (kind.attention.kind != AttentionKind::kLatent) return false;
  kind.attention.*member = number;
  return true;
}

// The rotated part is one of the two parts of a head.
bool set_rope_dim(LayerKind& kind, std::int64_t width) {
  if (kind.attention.kind == AttentionKind::kLatent && width > kind.attention.head_dim)
    throw UserError("", "rope_dim", fmt::format("{} of a head of {}", width, kind.attention.head_dim),
                    fmt::format("allowed: 0 to {}", kind.attention.head_dim));
  return set_latent(kind, &Attention::rope_dim, width);
}

// Of latent attention that of queries and keys alone, the rotated part included.
bool set_head_dim(LayerKind& kind, std::int64_t width) {
  if (kind.attention.kind == AttentionKind::kLatent && width < kind.attention.rope_dim)
    throw UserError("", "head_dim", fmt::format("{} is below rope_dim", width),
                    fmt::format("{} or more is allowed", kind.attention.rope_dim));
  return set_latent(kind, &Attention::head_dim, width) ||
         (set_grouped(kind, &Attention::head_dim, width) && set_grouped(kind, &Attention::value_dim, width));
}

// Of all feed-forwards, routed, shared and dense.
bool set_matrices(LayerKind& kind, std::int64_t number) {
  kind.feed_forward.matrices = number;
  return true;
}

bool set_dense_width(LayerKind& kind, std::int64_t width) {
  if (kind.feed_forward.is_moe()) return false;
  kind.feed_forward.width = width;
  return true;
}

void set_predict_layers(Model& model, std::int64_t count) {
  if (model.predict_layers == 0) model.predict_kind = model.layers.back();
  model.predict_layers = static_cast<int>(count);
}

Field model_switch(const char* name, const char* help, const std::function<void(Model&, bool)>& set) {
  return {name, help, [=](Scenario& scenario, const std::string& value) {
            if (value != "on" && value != "off")
              throw UserError("", name, fmt::format("'{}' is not allowed", excerpt(value)), "allowed: on|off");
            set(scenario.model, value == "on");
          }};
}

// Sets a switch of all grouped attention.
Field attention_switch(const char* name, const char* help, bool Attention::*member) {
  return model_switch(name, help, [=](Model& model, bool on) {
    bool found = false;
    for (LayerKind& kind : model.kinds) {
      if (kind.attention.kind != AttentionKind::kGrouped) continue;
      kind.attention.*member = on;
      found = true;
    }
    if (!found) throw UserError("", name, fmt::format("no layer of {} is grouped attention", model.name));
  });
}

std::vector<Field> model_fields() {
  constexpr IntegerRange kPredictLayers{0, 8};
  return {
      {"model", "another model: a config.json, or the name of one that ships",
       [](Scenario& scenario, const std::string& value) {
         scenario.model = find_model(value);
         scenario.plan.model = value;
       }},
      model_field("layers", "decoder layers", kLayers, set_layers),
      model_field("hidden", "width of a token; norms follow", kSize, set_hidden),
      model_field("vocab", "entries of the vocabulary", kVocab,
                  [](Model& model, std::int64_t vocab) { model.vocab = vocab; }),
      model_switch("tied_embeddings", "one matrix for the embedding and the head (on, off)",
                   [](Model& model, bool on) { model.tied_embeddings = on; }),
      layer_field("heads", "attention heads; key/value heads follow where they are as many", kSize, set_heads),
      layer_field("kv_heads", "key/value heads of grouped attention", kSize,
                  [](LayerKind& kind, std::int64_t n) { return set_grouped(kind, &Attention::kv_heads, n); }),
      layer_field("head_dim", "width of a head", kSize, set_head_dim),
      layer_field("window", "tokens that a query of grouped attention sees; 0: all before it", {0, kTokens.max},
                  [](LayerKind& kind, std::int64_t n) { return set_grouped(kind, &Attention::window, n); }),
      attention_switch("chunked", "the window does not slide: a query sees its own chunk (on, off)",
                       &Attention::chunked),
      attention_switch("output_gate", "a second half of the query projection gates the output (on, off)",
                       &Attention::output_gate),
      attention_switch("query_key_norm", "RMSNorm of queries and keys before RoPE (on, off)",
                       &Attention::query_key_norm),
      attention_switch("shares_kv", "keys and values of an earlier layer serve (on, off)", &Attention::shares_kv),
      layer_field("value_dim", "width of a value of latent attention", kSize,
                  [](LayerKind& kind, std::int64_t n) { return set_latent(kind, &Attention::value_dim, n); }),
      layer_field("query_rank", "compressed queries of latent attention; 0: not compressed", kCount,
                  [](LayerKind& kind, std::int64_t n) { return set_latent(kind, &Attention::query_rank, n); }),
      layer_field("kv_rank", "compressed keys and values of latent attention", kSize,
                  [](LayerKind& kind, std::int64_t n) { return set_latent(kind, &Attention::kv_rank, n); }),
      layer_field("rope_dim", "rotated part of a head of latent attention", kCount, set_rope_dim),
      expert_field("experts", "routed experts of a layer", kSize, &FeedForward::experts),
      expert_field("top_k", "routed experts that a token goes to", kSize, &FeedForward::top_k),
      expert_field("expert_width", "width of one routed expert", kSize, &FeedForward::width),
      expert_field("shared_width", "width of all shared experts together; 0: none", kCount, &FeedForward::shared_width),
      expert_field("expert_groups", "groups of experts that routing is limited to", kSize, &FeedForward::expert_groups),
      expert_field("groups_per_token", "groups that a token may go to", kSize, &FeedForward::groups_per_token),
      layer_field("matrices", "of a feed-forward: 3 gated (SwiGLU), 2 plain", {2, 3}, set_matrices),
      layer_field("dense_width", "width of a dense feed-forward", kSize, set_dense_width),
      model_field("predict_layers", "extra multi-token-prediction layers", kPredictLayers, set_predict_layers),
  };
}

// ---- Fields of the cluster

// Which measurements a change makes void: tables of collectives, or the fits of the GPU, which become derived ones.
enum class Part { kOther, kNvlink, kNetwork, kGpu };

void drop_measurements(Cluster& cluster, Part of) {
  if (of == Part::kGpu) cluster.gpu_is_hypothetical = true;
  if (of != Part::kNvlink && of != Part::kNetwork) return;
  std::erase_if(cluster.collectives, [&](const CollectiveTable& table) {
    return of == Part::kNvlink || table.ranks > table.ranks_per_node;
  });
}

template <class Quantity>
Field cluster_field(const char* name, const char* help, Quantity (*parse)(std::string_view, const Place&),
                    std::function<Quantity&(Cluster&)> member, Part part = Part::kOther) {
  return {name, help, [=](Scenario& scenario, const std::string& value) {
            member(scenario.cluster) = parse(value, {"", name});
            drop_measurements(scenario.cluster, part);
          }};
}

Field cluster_duration(const char* name, const char* help, const std::function<void(Cluster&, Duration)>& set) {
  return {name, help, [=](Scenario& scenario, const std::string& value) {
            set(scenario.cluster, parse_duration(value, {"", name}));
          }};
}

Field cluster_number(const char* name, const char* help, NumberRange range,
                     const std::function<void(Cluster&, double)>& set, Part part = Part::kOther) {
  return {name, help, [=](Scenario& scenario, const std::string& value) {
            const double number = parse_number(value, {"", name});
            if (number < range.min || number > range.max)
              throw UserError("", name, fmt::format("'{}' is not allowed", excerpt(value)),
                              fmt::format("allowed: {} to {}", range.min, range.max));
            set(scenario.cluster, number);
            drop_measurements(scenario.cluster, part);
          }};
}

Field cluster_count(const char* name, const char* help, std::int64_t Cluster::*member, Part part) {
  return {name, help, [=](Scenario& scenario, const std::string& value) {
            const std::int64_t number = parse_count(value, {"", name});
            if (number < 1 || number > 1024)
              throw UserError("", name, fmt::format("'{}' is not allowed", excerpt(value)), "allowed: 1 to 1024");
            scenario.cluster.*member = number;
            drop_measurements(scenario.cluster, part);
          }};
}

void set_memory(Scenario& scenario, const std::string& value) {
  const Bytes memory = parse_bytes(value, {"", "memory"});
  const Bytes least = std::max(Bytes{kGiB}, scenario.cluster.reserved_memory);
  if (memory <= least)
    throw UserError("", "memory", fmt::format("'{}' is too small", excerpt(value)),
                    fmt::format("more than {} is allowed", format_bytes(least)));
  scenario.cluster.gpu.memory = memory;
}

std::vector<Field> cluster_fields() {
  return {
      {"cluster", "another cluster: a file, or the name of one that ships",
       [](Scenario& scenario, const std::string& value) {
         scenario.cluster = find_cluster(value);
         scenario.plan.cluster = value;
       }},
      cluster_count("gpus_per_node", "GPUs of a node", &Cluster::gpus_per_node, Part::kOther),
      cluster_count("nics_per_node", "network cards of a node", &Cluster::nics_per_node, Part::kNetwork),
      cluster_count("rails", "the same", &Cluster::nics_per_node, Part::kNetwork),
      cluster_field<BytesPerSecond>(
          "nic", "bandwidth of a network card (200G, 50 GB/s)", parse_bandwidth,
          [](Cluster& c) -> BytesPerSecond& { return c.nic; }, Part::kNetwork),
      cluster_field<Duration>(
          "network_latency", "of one message (3 us)", parse_duration,
          [](Cluster& c) -> Duration& { return c.network_latency; }, Part::kNetwork),
      cluster_number(
          "oversubscription", "of the network's upper levels", {1, 1000},
          [](Cluster& c, double ratio) { c.oversubscription = ratio; }, Part::kNetwork),
      cluster_field<BytesPerSecond>(
          "nvlink", "bandwidth of a GPU inside its node, per direction (450 GB/s)", parse_bandwidth,
          [](Cluster& c) -> BytesPerSecond& { return c.nvlink; }, Part::kNvlink),
      cluster_field<Duration>(
          "nvlink_latency", "of one step inside a node (0.6 us)", parse_duration,
          [](Cluster& c) -> Duration& { return c.nvlink_latency; }, Part::kNvlink),
      cluster_field<BytesPerSecond>("pcie", "GPU to host memory, per direction (64 GB/s)", parse_bandwidth,
                                    [](Cluster& c) -> BytesPerSecond& { return c.pcie; }),
      cluster_field<BytesPerSecond>(
          "hbm", "bandwidth of GPU memory (3.35 TB/s)", parse_bandwidth,
          [](Cluster& c) -> BytesPerSecond& { return c.gpu.hbm; }, Part::kGpu),
      {"memory", "of a GPU, as a process sees it (79.1 GiB)", set_memory},
      cluster_field<FlopsPerSecond>(
          "fp32_peak", "peak of a GPU in fp32 (67 TFLOPS)", parse_flop_rate,
          [](Cluster& c) -> FlopsPerSecond& { return c.gpu.fp32_peak; }, Part::kGpu),
      cluster_field<FlopsPerSecond>(
          "bf16_peak", "dense peak of a GPU (989 TFLOPS)", parse_flop_rate,
          [](Cluster& c) -> FlopsPerSecond& { return c.gpu.bf16_peak; }, Part::kGpu),
      cluster_field<FlopsPerSecond>(
          "fp8_peak", "dense peak of a GPU (1979 TFLOPS)", parse_flop_rate,
          [](Cluster& c) -> FlopsPerSecond& { return c.gpu.fp8_peak; }, Part::kGpu),
      {"sms", "streaming multiprocessors of a GPU",
       [](Scenario& scenario, const std::string& value) {
         const std::int64_t sms = parse_count(value, {"", "sms"});
         if (sms < 1 || sms > 1024)
           throw UserError("", "sms", fmt::format("'{}' is not allowed", excerpt(value)), "allowed: 1 to 1024");
         scenario.cluster.gpu.sms = sms;
         drop_measurements(scenario.cluster, Part::kGpu);
       }},
      cluster_field<Bytes>("reserved_memory", "of a GPU, by the CUDA context and libraries (0.8 GiB)", parse_bytes,
                           [](Cluster& c) -> Bytes& { return c.reserved_memory; }),
      cluster_field<Bytes>("communicator_memory", "buffers of one communicator (240 MiB)", parse_bytes,
                           [](Cluster& c) -> Bytes& { return c.communicator_memory; }),
      cluster_field<Bytes>("host_memory_per_node", "of a node (2 TB)", parse_bytes,
                           [](Cluster& c) -> Bytes& { return c.host_memory_per_node; }),
      cluster_number("watts", "of a GPU at full load", {0, 10'000}, [](Cluster& c, double w) { c.gpu.watts = w; }),
      cluster_number("node_overhead_watts", "of a node at full load, beside its GPUs", {0, 100'000},
                     [](Cluster& c, double w) { c.node_overhead_watts = w; }),
      cluster_number("pue", "power of the building over that of its nodes", {1, 10},
                     [](Cluster& c, double ratio) { c.pue = ratio; }),
      cluster_number("failures_per_gpu_day", "that stop the job", {0, 1000},
                     [](Cluster& c, double failures) { c.failures_per_gpu_day = failures; }),
      cluster_duration("restart_time", "from a failure to the reading of the last checkpoint (10 min)",
                       [](Cluster& c, Duration time) { c.restart_time = time; }),
      cluster_field<BytesPerSecond>("checkpoint_bandwidth", "of a node, to storage (1 GB/s)", parse_bandwidth,
                                    [](Cluster& c) -> BytesPerSecond& { return c.checkpoint_bandwidth; }),
      cluster_duration("checkpoint_interval", "useful time between checkpoints (30 min); 0 s: the best one",
                       [](Cluster& c, Duration time) { c.checkpoint_interval = time; }),
      cluster_number("price_per_gpu_hour", "USD", {0, 10'000},
                     [](Cluster& c, double usd) { c.price_per_gpu_hour = usd; }),
      cluster_number("price", "the same", {0, 10'000}, [](Cluster& c, double usd) { c.price_per_gpu_hour = usd; }),
  };
}

void set_nodes(Scenario& scenario, const std::string& value) {
  const std::int64_t nodes = parse_count(value, {"", "nodes"});
  if (nodes < 1 || nodes > 1'000'000)
    throw UserError("", "nodes", fmt::format("'{}' is not allowed", excerpt(value)), "allowed: 1 to 1000000");
  set_plan_field(scenario.plan, "gpus", fmt::format("{}", nodes * scenario.cluster.gpus_per_node));
}

// ---- What makes ranks differ

void set_jitter(Scenario& scenario, const std::string& value) {
  const double jitter = parse_number(value, {"", "jitter"});
  if (!(jitter >= 0 && jitter <= LognormalFactors::kMostVariation))
    throw UserError("", "jitter", fmt::format("'{}' is not allowed", excerpt(value)),
                    fmt::format("a coefficient of variation from 0 to {}", LognormalFactors::kMostVariation));
  scenario.jitter = jitter;
}

std::vector<Field> rank_fields() {
  return {
      {"imbalance", "rows of the most loaded expert rank over balanced rows; or a file, draw:std=S, draw:dirichlet=A",
       [](Scenario& scenario, const std::string& value) {
         scenario.imbalance = parse_routing(value, {"", "imbalance"});
       }},
      {"straggler", "GPUs that compute slower: COUNT:FACTOR or rankN:FACTOR, several joined by +, or none",
       [](Scenario& scenario, const std::string& value) {
         scenario.stragglers = parse_stragglers(value, {"", "straggler"});
       }},
      {"jitter", "coefficient of variation of compute operators on every rank", set_jitter}};
}

}  // namespace

const std::vector<ScenarioField>& scenario_fields() {
  static const std::vector<ScenarioField> table = [] {
    std::vector<ScenarioField> all = model_fields();
    for (ScenarioField& field : cluster_fields()) all.push_back(std::move(field));
    all.push_back({"nodes", "sets gpus to so many nodes' GPUs; read after gpus_per_node", set_nodes});
    for (ScenarioField& field : rank_fields()) all.push_back(std::move(field));
    return all;
  }();
  return table;
}

}  // namespace msmoe::simulator
