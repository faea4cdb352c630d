// Plan files (docs/plan.md): one JSON object, read strictly and written in one order.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"
#include "core/pipeline_layout.h"
#include "core/plan.h"
#include "core/plan_names.h"

namespace msmoe {
namespace {

constexpr std::int64_t kSchemaVersion = 1;

IntegerRange range_of(std::int64_t Plan::*member) {
  const IntegerBounds& bounds = bounds_of(member);
  return {bounds.min, bounds.max};
}

void read_required(JsonObject& object, const std::string& key, Plan& plan, std::int64_t Plan::*member) {
  plan.*member = object.integer(key, range_of(member));
}
void read_integer(JsonObject& object, const std::string& key, Plan& plan, std::int64_t Plan::*member) {
  plan.*member = object.integer_or(key, plan.*member, range_of(member));
}

template <class Choices, class Enum>
void read_choice(JsonObject& object, const std::string& key, const Choices& choices, Enum& value) {
  const std::string name = object.text_or(key, choice_name(choices, value));
  const auto found = find_choice(choices, name);
  if (!found)
    object.fail(key, fmt::format("\"{}\" is not allowed", excerpt(name)), "allowed: " + join(choice_names(choices)));
  value = *found;
}

void read_bytes(JsonObject& object, const ByteChoices& choices, Plan& plan) {
  const double bytes = object.number_or(choices.name, plan.*choices.member);
  if (!is_allowed(choices, bytes))
    object.fail(choices.name, fmt::format("{} is not allowed", bytes), "allowed: " + allowed_bytes(choices));
  plan.*choices.member = bytes;
}

void read_attention(JsonObject object, Plan& plan) {
  read_choice(object, "parallelism", kAttentionChoices, plan.attention);
  read_integer(object, "degree", plan, &Plan::attention_degree);
  read_integer(object, "cp", plan, &Plan::context_degree);
  object.refuse_unknown_keys();
}

void read_feed_forward(JsonObject object, Plan& plan) {
  read_integer(object, "ep", plan, &Plan::ep);
  read_integer(object, "etp", plan, &Plan::etp);
  read_choice(object, "dispatch", kDispatchChoices, plan.dispatch);
  plan.capacity = object.number_or("capacity", plan.capacity, {0, kLargestCapacity});
  const FeedForwardParallelism actual = feed_forward_parallelism(plan);
  FeedForwardParallelism stated = actual;
  read_choice(object, "parallelism", kFeedForwardChoices, stated);
  if (stated != actual)
    object.fail(
        "parallelism",
        fmt::format("\"{}\" contradicts ep {} and etp {}", choice_name(kFeedForwardChoices, stated), plan.ep, plan.etp),
        fmt::format("these make \"{}\"", choice_name(kFeedForwardChoices, actual)));
  object.refuse_unknown_keys();
}

void read_pipeline(JsonObject object, Plan& plan) {
  read_integer(object, "pp", plan, &Plan::pp);
  read_integer(object, "vpp", plan, &Plan::vpp);
  read_choice(object, "schedule", kScheduleChoices, plan.schedule);
  plan.merge_passes = object.boolean_or("merge_passes", plan.merge_passes);
  plan.delay_weight_gradients = object.boolean_or("delay_weight_gradients", plan.delay_weight_gradients);
  if (const Json* layout = object.find("layout"); layout != nullptr && layout->is_string())
    plan.layout = parse_pipeline_layout(layout->get_ref<const std::string&>(), object.path("layout"));
  else if (object.has("layout"))
    plan.layout = object.integers("layout", {0, kLargestDegree});
  object.refuse_unknown_keys();
}

void read_optimizer(JsonObject object, Plan& plan) {
  plan.zero = static_cast<int>(object.integer_or("zero", plan.zero, {0, kLargestZero}));
  plan.optimizer_offload = object.boolean_or("offload", plan.optimizer_offload);
  for (const ByteChoices& choices : kByteChoices) read_bytes(object, choices, plan);
  object.refuse_unknown_keys();
}

void read_overlap(JsonObject object, Plan& plan) {
  read_choice(object, "in_layer", kOverlapChoices, plan.in_layer_overlap);
  plan.overlap_grad_reduce = object.boolean_or("grad_reduce", plan.overlap_grad_reduce);
  plan.overlap_param_gather = object.boolean_or("param_gather", plan.overlap_param_gather);
  plan.overlap_p2p = object.boolean_or("p2p", plan.overlap_p2p);
  read_integer(object, "communication_sms", plan, &Plan::communication_sms);
  read_integer(object, "launch_queues", plan, &Plan::launch_queues);
  plan.cuda_graphs = object.boolean_or("cuda_graphs", plan.cuda_graphs);
  object.refuse_unknown_keys();
}

void read_wire(JsonObject object, Plan& plan) {
  read_choice(object, "gradients", kGradWireChoices, plan.grad_wire);
  read_choice(object, "activations", kActWireChoices, plan.act_wire);
  object.refuse_unknown_keys();
}

void read_recompute(JsonObject& root, Plan& plan) {
  const Json* value = root.find("recompute");
  if (value == nullptr || value->is_null()) return;
  if (!value->is_array()) return read_choice(root, "recompute", kRecomputeSets, plan.recompute);
  plan.recompute = kRecomputeNone;
  for (const std::string& name : root.texts("recompute")) {
    const auto element = find_choice(kRecomputeChoices, name);
    if (!element)
      root.fail("recompute", fmt::format("\"{}\" is not allowed", excerpt(name)),
                "allowed: " + join(choice_names(kRecomputeChoices)));
    plan.recompute = plan.recompute | *element;
  }
}

// A known name alone, or an object that states its own scale.
void read_software(JsonObject& root, Plan& plan) {
  const Json* value = root.find("software");
  if (value == nullptr || value->is_null()) return;
  if (value->is_string()) {
    const std::string name = root.text("software");
    const std::vector<std::string> known = software_names();
    if (std::find(known.begin(), known.end(), name) == known.end())
      root.fail("software", fmt::format("\"{}\" is not a training system that msmoe knows", excerpt(name)),
                "allowed: " + join(known) + ", or an object of name and kernel_time_scale");
    plan.software = find_software(name);
    return;
  }
  JsonObject object = root.object("software");
  plan.software.name = object.text("name");
  plan.software.kernel_time_scale = object.number("kernel_time_scale", {1 / kLargestTimeScale, kLargestTimeScale});
  plan.software.attention_time_scale =
      object.number_or("attention_time_scale", 1, {1 / kLargestTimeScale, kLargestTimeScale});
  plan.software.memory_time_scale =
      object.number_or("memory_time_scale", 1, {1 / kLargestTimeScale, kLargestTimeScale});
  plan.software.routing_seconds = object.number_or("routing_seconds", 0, {0, kLargestRoutingSeconds});
  plan.software.source = object.text_or("source", "");
  object.refuse_unknown_keys();
}

Plan read_root(JsonObject root) {
  const std::int64_t version = root.integer("schema_version");
  if (version != kSchemaVersion)
    root.fail("schema_version", fmt::format("is {}, and this msmoe reads {}", version, kSchemaVersion));
  Plan plan;
  read_choice(root, "precision", kPrecisionChoices, plan.precision);
  set_precision(plan, plan.precision);  // the defaults of what follows
  plan.notes = root.text_or("notes", "");
  plan.model = root.text("model");
  plan.cluster = root.text("cluster");
  read_required(root, "gpus", plan, &Plan::gpus);
  read_required(root, "global_batch", plan, &Plan::global_batch);
  read_required(root, "seq_len", plan, &Plan::seq_len);
  read_integer(root, "micro_batch", plan, &Plan::micro_batch);
  if (auto object = root.optional_object("attention")) read_attention(*object, plan);
  if (auto object = root.optional_object("ffn")) read_feed_forward(*object, plan);
  if (auto object = root.optional_object("pipeline")) read_pipeline(*object, plan);
  if (auto object = root.optional_object("optimizer")) read_optimizer(*object, plan);
  read_recompute(root, plan);
  if (auto object = root.optional_object("overlap")) read_overlap(*object, plan);
  if (auto object = root.optional_object("wire")) read_wire(*object, plan);
  read_choice(root, "loss", kLossChoices, plan.loss);
  read_software(root, plan);
  root.refuse_unknown_keys();
  return plan;
}

// 4 rather than 4.0
Json number(double value) {
  if (std::abs(value) < 1e15 && value == std::trunc(value)) return static_cast<std::int64_t>(value);
  return value;
}

Json recompute_json(Recompute set) {
  for (const auto& choice : kRecomputeSets)
    if (choice.value == set) return choice.name;
  return recompute_elements(set);
}

Json software_json(const Software& software) {
  const std::vector<std::string> known = software_names();
  const bool is_known = std::find(known.begin(), known.end(), software.name) != known.end();
  if (is_known && find_software(software.name) == software) return software.name;
  return {{"name", software.name},
          {"kernel_time_scale", number(software.kernel_time_scale)},
          {"attention_time_scale", number(software.attention_time_scale)},
          {"memory_time_scale", number(software.memory_time_scale)},
          {"routing_seconds", number(software.routing_seconds)},
          {"source", software.source}};
}

Json to_json(const Plan& plan) {
  return {
      {"schema_version", kSchemaVersion},
      {"notes", plan.notes},
      {"model", plan.model},
      {"cluster", plan.cluster},
      {"gpus", plan.gpus},
      {"global_batch", plan.global_batch},
      {"seq_len", plan.seq_len},
      {"micro_batch", plan.micro_batch},
      {"attention",
       {{"parallelism", choice_name(kAttentionChoices, plan.attention)},
        {"degree", plan.attention_degree},
        {"cp", plan.context_degree}}},
      {"ffn",
       {{"parallelism", choice_name(kFeedForwardChoices, feed_forward_parallelism(plan))},
        {"ep", plan.ep},
        {"etp", plan.etp},
        {"dispatch", choice_name(kDispatchChoices, plan.dispatch)},
        {"capacity", number(plan.capacity)}}},
      {"pipeline",
       {{"pp", plan.pp},
        {"vpp", plan.vpp},
        {"schedule", choice_name(kScheduleChoices, plan.schedule)},
        {"merge_passes", plan.merge_passes},
        {"delay_weight_gradients", plan.delay_weight_gradients},
        {"layout", plan.layout}}},
      {"optimizer",
       {{"zero", plan.zero},
        {"offload", plan.optimizer_offload},
        {"grad_bytes", number(plan.grad_bytes)},
        {"moment_bytes", number(plan.moment_bytes)},
        {"master_bytes", number(plan.master_bytes)}}},
      {"recompute", recompute_json(plan.recompute)},
      {"overlap",
       {{"in_layer", choice_name(kOverlapChoices, plan.in_layer_overlap)},
        {"grad_reduce", plan.overlap_grad_reduce},
        {"param_gather", plan.overlap_param_gather},
        {"p2p", plan.overlap_p2p},
        {"communication_sms", plan.communication_sms},
        {"launch_queues", plan.launch_queues},
        {"cuda_graphs", plan.cuda_graphs}}},
      {"wire",
       {{"gradients", choice_name(kGradWireChoices, plan.grad_wire)},
        {"activations", choice_name(kActWireChoices, plan.act_wire)}}},
      {"precision", choice_name(kPrecisionChoices, plan.precision)},
      {"loss", choice_name(kLossChoices, plan.loss)},
      {"software", software_json(plan.software)},
  };
}

std::string render_inline(const Json& value) {
  if (!value.is_structured()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::vector<std::string> parts;
  for (const auto& [key, inner] : value.items())
    parts.push_back((value.is_object() ? fmt::format("\"{}\": ", key) : "") + render_inline(inner));
  return value.is_object() ? "{" + join(parts) + "}" : "[" + join(parts) + "]";
}

// One line a key of the root; what is inside stands on that line.
std::string render(const Json& root) {
  std::vector<std::string> lines;
  for (const auto& [key, value] : root.items()) lines.push_back(fmt::format("  \"{}\": {}", key, render_inline(value)));
  return "{\n" + join(lines, ",\n") + "\n}\n";
}

}  // namespace

std::string plan_to_json(const Plan& plan) { return render(to_json(plan)); }

Plan parse_plan(const std::string& name, std::string_view json_text) {
  return read_root(JsonDocument(name, json_text).root());
}

Plan read_plan(const std::string& path) { return parse_plan(path, read_text_file(path)); }

Plan find_plan(const std::string& name_or_path) { return read_plan(find_data_file("plans", name_or_path)); }

}  // namespace msmoe
