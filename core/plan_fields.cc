// The fields of a plan by the names that --fix, --what-if and --sweep take: one table.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "core/pipeline_layout.h"
#include "core/plan.h"
#include "core/plan_names.h"
#include "core/units_text.h"

namespace msmoe {
namespace {

struct PlanField {
  std::string name;
  std::string help;
  std::string allowed;
  std::function<std::string(const Plan&)> get;
  std::function<bool(Plan&, const std::string&)> set;  // false: the value is not among those allowed
};

PlanField integer_field(std::int64_t Plan::*member, const char* help) {
  const IntegerBounds& bounds = bounds_of(member);
  return {bounds.name, help, fmt::format("{} to {}", bounds.min, bounds.max),
          [member](const Plan& plan) { return fmt::format("{}", plan.*member); },
          [member, &bounds](Plan& plan, const std::string& value) {
            const std::int64_t number = parse_count(value, {"", bounds.name});
            if (number < bounds.min || number > bounds.max) return false;
            plan.*member = number;
            return true;
          }};
}

template <class Choices, class Enum>
PlanField choice_field(const char* name, const Choices& choices, Enum Plan::*member, const char* help) {
  return {name, help, join(choice_names(choices), "|"),
          [&choices, member](const Plan& plan) -> std::string { return choice_name(choices, plan.*member); },
          [&choices, member](Plan& plan, const std::string& value) {
            const auto found = find_choice(choices, value);
            if (found) plan.*member = *found;
            return found.has_value();
          }};
}

PlanField switch_field(const char* name, bool Plan::*member, const char* help) {
  return {name, help, "on|off", [member](const Plan& plan) -> std::string { return plan.*member ? "on" : "off"; },
          [member](Plan& plan, const std::string& value) {
            if (value != "on" && value != "off") return false;
            plan.*member = value == "on";
            return true;
          }};
}

bool set_capacity(Plan& plan, const std::string& value) {
  const double capacity = parse_number(value, {"", "capacity"});
  if (capacity < 0 || capacity > kLargestCapacity) return false;
  plan.capacity = capacity;
  return true;
}

PlanField bytes_field(const ByteChoices& choices, const char* help) {
  return {choices.name, help, allowed_bytes(choices),
          [&choices](const Plan& plan) { return fmt::format("{}", plan.*choices.member); },
          [&choices](Plan& plan, const std::string& value) {
            const double bytes = parse_number(value, {"", choices.name});
            if (!is_allowed(choices, bytes)) return false;
            plan.*choices.member = bytes;
            return true;
          }};
}

bool set_zero(Plan& plan, const std::string& value) {
  if (value.size() != 1 || value[0] < '0' || value[0] > '0' + kLargestZero) return false;
  plan.zero = value[0] - '0';
  return true;
}

bool set_feed_forward(Plan& plan, const std::string& value) {
  const auto parallelism = find_choice(kFeedForwardChoices, value);
  if (!parallelism) return false;
  const std::int64_t ranks = plan.expert_ranks();
  if (ranks > kLargestDegree) return false;
  switch (*parallelism) {
    case FeedForwardParallelism::kExpert:
      plan.ep = ranks;
      plan.etp = 1;
      return true;
    case FeedForwardParallelism::kTensor:
      plan.ep = 1;
      plan.etp = ranks;
      return true;
    case FeedForwardParallelism::kExpertAndTensor:
      if (plan.ep == 1 || plan.etp == 1)
        throw UserError("", "ffn",
                        fmt::format("'etp' needs both degrees above 1, and they are ep={} etp={}", plan.ep, plan.etp),
                        "set ep and etp first");
      return true;
  }
  return false;
}

std::string data_parallel_degree(const Plan& plan) {
  const std::int64_t ranks = plan.model_ranks();
  return fmt::format("{}", ranks > 0 ? plan.gpus / ranks : 0);
}

bool set_data_parallel_degree(Plan& plan, const std::string& value) {
  const std::int64_t degree = parse_count(value, {"", "dp"});
  const std::int64_t ranks = plan.model_ranks();
  if (degree < 1 || ranks < 1) return false;
  if (degree > kLargestDegree / ranks)
    throw UserError("", "dp",
                    fmt::format("{} replicas of {} ranks are more than {} GPUs", degree, ranks, kLargestDegree),
                    "use fewer");
  plan.gpus = degree * ranks;
  return true;
}

bool set_layout(Plan& plan, const std::string& value) {
  plan.layout = value == "even" ? std::vector<std::int64_t>{} : parse_pipeline_layout(value, "layout");
  return true;
}

bool set_recompute(Plan& plan, const std::string& value) {
  if (const auto set = find_choice(kRecomputeSets, value)) {
    plan.recompute = *set;
    return true;
  }
  Recompute set = Recompute::kNothing;
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t end = std::min(value.find('+', begin), value.size());
    const auto element = find_choice(kRecomputeChoices, std::string_view(value).substr(begin, end - begin));
    if (!element) return false;
    set = set | *element;
    begin = end + 1;
  }
  plan.recompute = set;
  return true;
}

std::vector<PlanField> make_fields() {
  return {
      choice_field("attention", kAttentionChoices, &Plan::attention,
                   "attention over tensor (tp), Ulysses sequence (sp) or context (cp) ranks"),
      integer_field(&Plan::attention_degree, "ranks that share one sequence by that way"),
      integer_field(&Plan::context_degree, "context-parallel ranks beside tp or sp"),
      {"ffn", "moves ep * etp to expert (ep) or expert-tensor (tp) parallelism; etp: both",
       join(choice_names(kFeedForwardChoices), "|"),
       [](const Plan& plan) -> std::string { return choice_name(kFeedForwardChoices, feed_forward_parallelism(plan)); },
       set_feed_forward},
      integer_field(&Plan::ep, "expert-parallel ranks"),
      integer_field(&Plan::etp, "tensor-parallel ranks of one expert"),
      choice_field("dispatch", kDispatchChoices, &Plan::dispatch,
                   "tokens to experts by all-to-all, or by all-gather and reduce-scatter"),
      {"capacity", "copies of tokens that an expert rank takes, over balance, the others being dropped; 0: all",
       fmt::format("0 to {}", kLargestCapacity), [](const Plan& plan) { return fmt::format("{}", plan.capacity); },
       set_capacity},
      integer_field(&Plan::pp, "pipeline stages"),
      integer_field(&Plan::vpp, "model chunks a stage"),
      choice_field("schedule", kScheduleChoices, &Plan::schedule, "order of micro-batches through the stages"),
      switch_field("merge_passes", &Plan::merge_passes,
                   "forwards beside backwards, the exchanges of one under the other"),
      switch_field("delay_weight_gradients", &Plan::delay_weight_gradients,
                   "of merged passes, after a layer's input gradients"),
      {"layout", "decoder layers of each virtual stage", "4/4/3, Et|(tt|)*30L, or even",
       [](const Plan& plan) -> std::string {
         return plan.layout.empty() ? "even" : format_pipeline_layout(plan.layout);
       },
       set_layout},
      {"dp", "replicas: sets gpus, keeps global_batch; give it after the other degrees", "1 or more",
       data_parallel_degree, set_data_parallel_degree},
      integer_field(&Plan::gpus, "GPUs of the whole job; the replicas follow"),
      integer_field(&Plan::global_batch, "sequences a step"),
      integer_field(&Plan::seq_len, "tokens a sequence (128k = 131072)"),
      {"zero", "what the data ranks shard: 1 optimizer, 2 and gradients, 3 and parameters", "0, 1, 2, 3",
       [](const Plan& plan) { return fmt::format("{}", plan.zero); }, set_zero},
      integer_field(&Plan::micro_batch, "sequences a micro-batch"),
      {"recompute", "tensors that backward rebuilds",
       join(choice_names(kRecomputeSets), "|") + ", or a sum of " + join(choice_names(kRecomputeChoices), "+"),
       [](const Plan& plan) { return recompute_name(plan.recompute); }, set_recompute},
      choice_field("overlap", kOverlapChoices, &Plan::in_layer_overlap,
                   "of communication and compute inside a layer: between operators (inter), inside them too (intra)"),
      switch_field("overlap_grad_reduce", &Plan::overlap_grad_reduce, "gradient reduction beside backward"),
      switch_field("overlap_param_gather", &Plan::overlap_param_gather, "parameter gathering beside forward"),
      switch_field("overlap_p2p", &Plan::overlap_p2p, "messages between stages beside compute"),
      integer_field(&Plan::communication_sms, "SMs of a communication kernel beside compute; 0: copy engines"),
      integer_field(&Plan::launch_queues,
                    "CUDA_DEVICE_MAX_CONNECTIONS: streams that share one start in order of issue"),
      switch_field("cuda_graphs", &Plan::cuda_graphs, "the host launches a whole pass at once"),
      choice_field("grad_wire", kGradWireChoices, &Plan::grad_wire, "gradients on the wire"),
      choice_field("act_wire", kActWireChoices, &Plan::act_wire, "activations on the wire"),
      choice_field("precision", kPrecisionChoices, &Plan::precision, "of the GEMMs; fp32: of all there is"),
      choice_field("loss", kLossChoices, &Plan::loss, "all logits at once, or a chunk of tokens at a time"),
      switch_field("optimizer_offload", &Plan::optimizer_offload, "master weights and moments in host memory"),
      bytes_field(kByteChoices[0], "of the accumulated gradient of a parameter"),
      bytes_field(kByteChoices[1], "of each Adam moment of a parameter"),
      bytes_field(kByteChoices[2], "of the master weight of a parameter; 0: none"),
      {"software", "the training system whose kernels are priced", join(software_names(), "|"),
       [](const Plan& plan) { return plan.software.name; },
       [](Plan& plan, const std::string& value) {
         plan.software = find_software(value);
         return true;
       }},
  };
}

const std::vector<PlanField>& fields() {
  static const std::vector<PlanField> table = make_fields();
  return table;
}

const PlanField& find_field(const std::string& key) {
  for (const PlanField& field : fields())
    if (field.name == key) return field;
  const std::string nearest = nearest_word(key, plan_field_names());
  throw UserError("", excerpt(key), "is not a field of a plan",
                  nearest.empty() ? "known: " + join(plan_field_names()) : "did you mean '" + nearest + "'?");
}

}  // namespace

void set_plan_field(Plan& plan, const std::string& key, const std::string& value) {
  const PlanField& field = find_field(key);
  if (!field.set(plan, value))
    throw UserError("", key, fmt::format("'{}' is not allowed", excerpt(value)), "allowed: " + field.allowed);
}

std::string plan_field(const Plan& plan, const std::string& key) { return find_field(key).get(plan); }

std::vector<std::string> plan_field_names() {
  std::vector<std::string> names;
  for (const PlanField& field : fields()) names.push_back(field.name);
  return names;
}

std::string plan_fields_help() {
  std::string text;
  for (const PlanField& field : fields())
    text += fmt::format("  {:<21} {} ({})\n", field.name, field.help, field.allowed);
  return text;
}

}  // namespace msmoe
