#include "executor/parameters/local_parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/schedule.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kAlignment = 64;         // elements: 128 bytes of bf16, as TMA and NVLink like it
constexpr std::int64_t kVocabularyBlock = 128;  // rows, as the lowering counts them

constexpr std::int64_t round_up(std::int64_t count, std::int64_t unit) { return (count + unit - 1) / unit * unit; }

class Slicer {
 public:
  Slicer(const Model& model, const Plan& plan, const MeshPlace& place)
      : model_(model),
        plan_(plan),
        place_(place),
        n_(plan.attention == AttentionParallelism::kTensor ? plan.attention_degree : 1),
        t_(n_ > 1 ? place.attention : 0) {}

  LocalParameter slice(const Parameter& whole) const {
    LocalParameter local{.whole = whole, .slice = whole_box(whole)};
    if (whole.expert >= 0) {
      (splits_columns(whole.part) ? take_columns : take_rows)(local.slice, plan_.etp, place_.expert_tensor);
      return local;
    }
    switch (whole.part) {
      case Part::kQuery:
      case Part::kQueryUp:
      case Part::kKvUp:
      case Part::kGate:
      case Part::kUp:
      case Part::kSharedGate:
      case Part::kSharedUp: take_rows(local.slice, n_, t_); break;
      case Part::kAttentionOutput:
      case Part::kDown:
      case Part::kSharedDown:
      case Part::kQueryBias:
      case Part::kGateBias:
      case Part::kUpBias: take_columns(local.slice, n_, t_); break;
      case Part::kKey:
      case Part::kValue: take_kv_heads(local, take_rows); break;
      case Part::kKeyBias:
      case Part::kValueBias: take_kv_heads(local, take_columns); break;
      case Part::kEmbedding:
      case Part::kHead:
        local.slice.row_begin = std::min(model_.vocab, t_ * vocabulary_rows());
        local.slice.row_end = std::min(model_.vocab, (t_ + 1) * vocabulary_rows());
        break;
      case Part::kQueryNorm:
      case Part::kKeyNorm: refuse_whole_norm(whole); [[fallthrough]];
      default: local.sharers = static_cast<int>(n_);
    }
    local.is_first = t_ % local.sharers == 0;
    return local;
  }

  // What the slice takes of its bucket, as large on every tensor rank.
  std::int64_t room(const LocalParameter& local) const {
    const bool is_vocabulary = local.whole.part == Part::kEmbedding || local.whole.part == Part::kHead;
    return is_vocabulary ? vocabulary_rows() * local.slice.columns() : local.slice.size();
  }
  bool is_replicated(const LocalParameter& local) const { return n_ > 1 && local.sharers == n_; }

 private:
  using Take = void (*)(Box&, std::int64_t, std::int64_t);
  static void take_rows(Box& box, std::int64_t parts, std::int64_t part_idx) {
    assert(box.rows() % parts == 0);
    const std::int64_t rows = box.rows() / parts;
    box.row_begin = part_idx * rows;
    box.row_end = box.row_begin + rows;
  }
  static void take_columns(Box& box, std::int64_t parts, std::int64_t part_idx) {
    assert(box.columns() % parts == 0);
    const std::int64_t columns = box.columns() / parts;
    box.column_begin = part_idx * columns;
    box.column_end = box.column_begin + columns;
  }
  static bool splits_columns(Part part) { return part == Part::kDown; }

  const Attention& attention_of(const Parameter& whole) const {
    return model_.layer(static_cast<std::size_t>(whole.layer)).attention;
  }
  void take_kv_heads(LocalParameter& local, Take take) const {
    const std::int64_t heads = attention_of(local.whole).kv_heads;
    const std::int64_t parts = std::min(heads, n_);
    local.sharers = static_cast<int>(n_ / parts);
    take(local.slice, parts, t_ * parts / n_);
  }
  void refuse_whole_norm(const Parameter& whole) const {
    if (n_ == 1 || whole.shape[0] == attention_of(whole).head_dim) return;
    throw UserError(model_.name, "attention=tp", "the model norms the queries of all heads together",
                    "attention=sp or cp is allowed, or attention_degree=1");
  }
  std::int64_t vocabulary_rows() const { return round_up(model_.vocab, kVocabularyBlock * n_) / n_; }

  const Model& model_;
  const Plan& plan_;
  const MeshPlace& place_;
  std::int64_t n_, t_;
};

bool is_of(const Parameter& parameter, const ModuleId& module) {
  switch (module.kind) {
    case ModuleKind::kEmbedding: return parameter.part == Part::kEmbedding;
    case ModuleKind::kHead: return parameter.part == Part::kFinalNorm || parameter.part == Part::kHead;
    case ModuleKind::kLayer: return parameter.layer == module.layer;
    case ModuleKind::kPredict: break;
  }
  assert(false && "prediction layers are not run");
  return false;
}

// One matrix with the parameter before it.
bool continues(const Parameter& parameter, const Parameter& before) {
  switch (parameter.part) {
    case Part::kUp: return before.part == Part::kGate;
    case Part::kSharedUp: return before.part == Part::kSharedGate;
    case Part::kGate: return parameter.expert > 0 && before.part == Part::kUp;
    case Part::kDown: return parameter.expert > 0 && before.part == Part::kDown;
    default: return false;
  }
}

void lay_out(LocalBucket& bucket, const Slicer& slicer, const Plan& plan) {
  const auto place = [&](const LocalParameter& local) {
    const int holders = slicer.is_replicated(local) ? 0 : local.sharers > 1 ? 1 : 2;
    return std::tuple(holders, local.decays(), local.whole.expert >= 0 && local.whole.part == Part::kDown);
  };
  std::stable_sort(bucket.parameters.begin(), bucket.parameters.end(),
                   [&](const LocalParameter& a, const LocalParameter& b) { return place(a) < place(b); });
  std::int64_t end = 0;
  const Parameter* before = nullptr;
  for (LocalParameter& local : bucket.parameters) {
    if (before == nullptr || !continues(local.whole, *before)) end = round_up(end, kAlignment);
    local.offset = end;
    end += slicer.room(local);
    before = &local.whole;
    if (slicer.is_replicated(local)) bucket.replicated_end = round_up(end, kAlignment);
    if (local.sharers > 1) bucket.shared_end = round_up(end, kAlignment);
  }
  bucket.elements = round_up(end, kAlignment * group_of(bucket.group, plan, 1).size);
}

}  // namespace

bool runs_before(const ModuleId& a, const ModuleId& b) {
  const auto place = [](const ModuleId& module) {
    return std::pair(module.kind == ModuleKind::kEmbedding ? 0
                     : module.kind == ModuleKind::kLayer   ? 1
                                                           : 2,
                     module.layer);
  };
  return place(a) < place(b);
}

std::vector<std::vector<ModuleId>> stage_modules(const Model& model, const Plan& plan, int stage) {
  assert(model.predict_layers == 0);
  const PipelineShape shape = pipeline_shape(plan);
  std::vector<std::vector<ModuleId>> chunks;
  for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk) {
    const std::int64_t virtual_stage = shape.virtual_stage(stage, chunk);
    std::int64_t layer = 0;
    for (std::int64_t before = 0; before < virtual_stage; ++before) layer += plan.layers_of(before, model.num_layers());
    std::vector<ModuleId>& modules = chunks.emplace_back();
    if (virtual_stage == 0) modules.push_back({ModuleKind::kEmbedding});
    for (std::int64_t count = plan.layers_of(virtual_stage, model.num_layers()); count > 0; --count)
      modules.push_back({ModuleKind::kLayer, static_cast<int>(layer++)});
    if (virtual_stage + 1 == plan.virtual_stages()) modules.push_back({ModuleKind::kHead});
  }
  return chunks;
}

LocalParameters local_parameters(const Model& model, const Plan& plan, const MeshPlace& place, const ModuleId& module) {
  if (model.tied_embeddings && plan.pp > 1)
    throw UserError(model.name, fmt::format("pp={}", plan.pp),
                    "the head is tied to the embedding, which would be on another stage", "pp=1 is allowed");
  const Slicer slicer(model, plan, place);
  LocalParameters local{.dense = {.group = GroupKind::kDenseData}, .expert = {.group = GroupKind::kExpertData}};
  for (const Parameter& parameter : list_parameters(model)) {
    if (!is_of(parameter, module)) continue;
    if (parameter.expert >= 0) {
      const std::int64_t here = model.layer(static_cast<std::size_t>(module.layer)).feed_forward.experts / plan.ep;
      if (parameter.expert / here == place.expert) local.expert.parameters.push_back(slicer.slice(parameter));
    } else if (parameter.part == Part::kRouterBias) {
      local.router_bias = slicer.slice(parameter);
    } else {
      local.dense.parameters.push_back(slicer.slice(parameter));
    }
  }
  lay_out(local.dense, slicer, plan);
  lay_out(local.expert, slicer, plan);
  return local;
}

Box whole_box(const Parameter& parameter) {
  const bool is_matrix = parameter.shape.size() > 1;
  return {.row_end = is_matrix ? parameter.shape[0] : 1, .column_end = parameter.shape[is_matrix ? 1 : 0]};
}

}  // namespace msmoe::executor
