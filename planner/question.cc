#include "planner/question.h"

#include <algorithm>

#include "core/error.h"
#include "core/simulable.h"
#include "core/units_text.h"

namespace msmoe::planner {

bool Question::is_fixed(const std::string& key) const {
  return std::find(fixed.begin(), fixed.end(), key) != fixed.end();
}

Plan base_plan(const Gpu& gpu) {
  Plan plan;
  if (gpu.bf16_peak.count == 0) set_precision(plan, Precision::kFp32);
  if (!gpu.is_cpu_core()) return plan;
  plan.in_layer_overlap = InLayerOverlap::kNone;
  plan.overlap_grad_reduce = plan.overlap_param_gather = plan.overlap_p2p = false;
  plan.communication_sms = 0;
  plan.software = find_software("kernels");
  return plan;
}

Question make_question(Model model, Cluster cluster, Plan base, const std::vector<simulator::Change>& fixes) {
  if (!model.can_be_planned()) {
    throw UserError(model.name, "model_type",
                    model.family +
                        " has layers that are neither attention nor a feed-forward (linear attention or "
                        "state space): they are counted, but cannot be planned yet",
                    "models with softmax attention in every layer can");
  }
  Question question;
  for (const auto& [key, value] : fixes) {
    if (key == "gpus" || key == "global_batch" || key == "seq_len") {
      throw UserError("--fix", key, "is given by its own flag", "use --gpus, --global-batch or --seq-len");
    }
    if (key == "ffn") {
      question.feed_forward = find_choice(kFeedForwardChoices, value);
      if (!question.feed_forward) {
        throw UserError("--fix", key, "'" + value + "' is no feed-forward parallelism",
                        "allowed: " + join(choice_names(kFeedForwardChoices)));
      }
    } else if (key == "dp") {
      question.dp = parse_count(value, {"--fix", key});
    } else {
      set_plan_field(base, key, value);
    }
    question.fixed.push_back(key);
  }
  require_simulable(model, cluster, base, "");
  question.model = std::move(model);
  question.cluster = std::move(cluster);
  question.base = std::move(base);
  return question;
}

}  // namespace msmoe::planner
