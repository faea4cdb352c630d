// Parted and merged passes against the modules that they are made from.
#include "core/lowering/merge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/data_files.h"
#include "tests/core/data_flow_checker.h"
#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

// DeepSeek-V2-Lite and Mixtral layers with expert exchanges, under each recomputation and overlap.
std::vector<std::pair<Module, Plan>> samples() {
  std::vector<std::pair<Module, Plan>> made;
  for (const char* name : {"deepseek-v2-lite", "mixtral-8x7b"}) {
    const Model model = find_model(name);
    for (const char* recompute : {"none", "selective", "full"}) {
      for (const char* overlap : {"none", "inter", "intra"}) {
        for (const char* zero : {"1", "3"}) {
          const Plan plan = plan_with({{"attention", "sp"},
                                       {"attention_degree", "8"},
                                       {"ep", "8"},
                                       {"zero", zero},
                                       {"recompute", recompute},
                                       {"overlap", overlap}});
          const int kind = static_cast<int>(model.kinds.size()) - 1;
          made.emplace_back(lower_layer(model, plan, kind, {}), plan);
        }
      }
    }
  }
  return made;
}

std::multiset<std::string> bag(const std::vector<std::string>& names) { return {names.begin(), names.end()}; }

void expect_waits_point_back(const Operators& operators) {
  for (std::size_t place = 0; place < operators.size(); ++place)
    for (const std::int16_t wait : operators[place].waits) {
      EXPECT_GE(wait, 0);
      EXPECT_LT(static_cast<std::size_t>(wait), place);
    }
}

// What an operator waits for, by name.
std::set<std::string> awaited(const Operators& operators, const Operator& op) {
  std::set<std::string> names;
  for (const std::int16_t wait : op.waits) names.insert(operators[static_cast<std::size_t>(wait)].name);
  return names;
}

TEST(PartedBackward, HalvesAreTheWhole) {
  for (const auto& [module, plan] : samples()) {
    SCOPED_TRACE(short_plan(plan));
    const Operators input = input_gradients(module), weights = weight_gradients(module);
    std::vector<std::string> all = names_of(input);
    for (const std::string& name : names_of(weights)) all.push_back(name);
    EXPECT_EQ(bag(all), bag(names_of(module.backward)));
    EXPECT_DOUBLE_EQ(flops_of(input) + flops_of(weights), flops_of(module.backward));
    EXPECT_EQ(flops_of(input, of_pass(Pass::kBackwardWeight)), 0);
    EXPECT_EQ(flops_of(weights), flops_of(module.backward, of_pass(Pass::kBackwardWeight)));
    expect_waits_point_back(input);
    expect_waits_point_back(weights);
    // An input gradient waits for what it waited for.
    for (const Operator& op : input)
      EXPECT_EQ(awaited(input, op), awaited(module.backward, find_operator(module.backward, op.name))) << op.name;
  }
}

// Weight gradients read inputs and output gradients of the products: at least all their operands, each once.
TEST(PartedBackward, HoldsWhatWeightGradientsRead) {
  for (const auto& [module, plan] : samples()) {
    SCOPED_TRACE(short_plan(plan));
    std::set<std::int16_t> read;
    double held = 0;
    for (const Operator& op : module.backward)
      if (op.pass == Pass::kBackwardWeight) read.insert(op.reads.begin(), op.reads.end());
    for (const std::int16_t id : read) held += module.tensors[static_cast<std::size_t>(id)].size.count;
    const PartedMemory memory = parted_memory(module);
    EXPECT_DOUBLE_EQ(memory.held.count, held);
    EXPECT_GT(held, 0);
    // What it writes of that is still there at its end.
    EXPECT_DOUBLE_EQ(memory.input_peak.count, DataFlow(module).peak(input_gradients(module), read));
  }
}

TEST(MergedPasses, AreBothInTheirOrder) {
  for (const auto& [module, plan] : samples()) {
    for (const bool delay : {false, true}) {
      SCOPED_TRACE(short_plan(plan) + (delay ? " delayed" : ""));
      const Operators merged = merge_passes(module, module, delay);
      expect_waits_point_back(merged);
      const Choose is_forward = of_pass(Pass::kForward);
      const Choose is_backward = [](const Operator& op) { return op.pass != Pass::kForward && op.pass != Pass::kSync; };
      EXPECT_EQ(names_of(merged, is_forward), names_of(module.forward, is_forward));
      if (delay) {
        EXPECT_EQ(bag(names_of(merged, is_backward)), bag(names_of(module.backward, is_backward)));
      } else {
        EXPECT_EQ(names_of(merged, is_backward), names_of(module.backward, is_backward));
      }
      EXPECT_EQ(merged.size(), module.forward.size() + module.backward.size());
    }
  }
}

// Between two exchanges of one pass stands compute of the other, as long as the other has some left.
TEST(MergedPasses, ExchangesHaveTheOtherPassBesideThem) {
  const Model model = find_model("mixtral-8x7b");
  const Plan plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}, {"overlap", "inter"}});
  const Module layer = lower_layer(model, plan, 0, {});
  const Operators merged = merge_passes(layer, layer, false);
  // 4 exchanges each way: queries and results of attention, dispatch and combine. Backward's come first.
  std::vector<bool> turns;
  for (const Operator& op : merged)
    if (op.stream == Stream::kCommunication) turns.push_back(op.pass == Pass::kForward);
  EXPECT_EQ(turns, (std::vector<bool>{false, true, false, true, false, true, false, true}));
}

TEST(MergedPasses, DelayedWeightGradientsStandLast) {
  for (const auto& [module, plan] : samples()) {
    const Operators merged = merge_passes(Module{}, module, true);
    bool weights = false;
    for (const Operator& op : merged) {
      if (op.pass == Pass::kBackwardWeight) weights = true;
      EXPECT_FALSE(weights && op.pass == Pass::kBackwardInput) << op.name << ", " << short_plan(plan);
    }
    EXPECT_TRUE(weights);
  }
}

}  // namespace
}  // namespace msmoe
