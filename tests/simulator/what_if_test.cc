#include "simulator/what_if.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "simulator/explain.h"
#include "simulator/study.h"

namespace msmoe::simulator {
namespace {

Scenario changed(const std::string& plan, const std::string& changes) {
  Scenario scenario = load_scenario(plan);
  apply_changes(scenario, parse_changes(changes, "--what-if"));
  return scenario;
}

void expect_refused(const std::string& changes, const std::string& place, const std::string& part) {
  try {
    changed("megascale-moe-352b", changes);
    ADD_FAILURE() << changes << " was accepted";
  } catch (const UserError& error) {
    EXPECT_EQ(error.place(), place);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(Changes, AreKeysAndValues) {
  const std::vector<Change> changes = parse_changes("layout=4/4/3,nic=200G", "--what-if");
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].key, "layout");
  EXPECT_EQ(changes[0].value, "4/4/3");
  EXPECT_EQ(changes[1].key, "nic");
  for (const char* text : {"", "gpus", "gpus=", "=4", "gpus=4,", "gpus=4,,ep=2"})
    EXPECT_THROW(parse_changes(text, "--what-if"), UserError) << text;
}

// 1,440 GPUs are SP8 x PP15 x DP12; at 480 the replicas alone change: 480 / 120 = 4.
TEST(Changes, GpusChangeTheReplicas) {
  const Plan before = load_scenario("megascale-moe-352b").plan;
  Plan after = changed("megascale-moe-352b", "gpus=480").plan;
  EXPECT_EQ(after.dp(), 4);
  after.gpus = before.gpus;
  EXPECT_EQ(after, before);
}

// A model brings its own top-k, so it is read first wherever it stands. dp is counted in the degrees, so it comes last:
// 3 replicas of 4 x 15 ranks.
TEST(Changes, ComeInAnOrderThatKeepsThemAll) {
  const Scenario scenario = changed("megascale-moe-352b", "dp=3,attention_degree=4,top_k=1,model=mixtral-8x7b");
  EXPECT_EQ(scenario.model.name, "mixtral-8x7b");
  EXPECT_EQ(scenario.plan.model, "mixtral-8x7b");
  EXPECT_EQ(scenario.model.kinds.front().feed_forward.top_k, 1);
  EXPECT_EQ(scenario.plan.gpus, 180);
}

// 200 Gb/s are 25 GB/s. A table measured across nodes is void with other network cards, one inside a node with another
// NVLink.
TEST(Changes, WiresMakeMeasuredTablesVoid) {
  Scenario scenario = load_scenario("megascale-moe-352b");
  CollectiveTable inside, across;
  inside.ranks = inside.ranks_per_node = 8;
  across.ranks = 16;
  across.ranks_per_node = 8;
  scenario.cluster.collectives = {inside, across};
  apply_changes(scenario, {{"nic", "200G"}});
  EXPECT_EQ(scenario.cluster.nic, BytesPerSecond{25e9});
  ASSERT_EQ(scenario.cluster.collectives.size(), 1u);
  EXPECT_EQ(scenario.cluster.collectives[0].ranks, 8);
  apply_changes(scenario, {{"nvlink", "450 GB/s"}});
  EXPECT_TRUE(scenario.cluster.collectives.empty());
}

// One routed expert of megascale-352b is 3 x 4096 x 14336 = 176,160,768. 32 more in each of 60 layers are
// 338,228,674,560 parameters, and their columns of the routers 4096 x 32 x 60 = 7,864,320.
TEST(Changes, ExpertsOfAllLayers) {
  const std::int64_t before = count_parameters(load_scenario("megascale-moe-352b").model).total;
  EXPECT_EQ(count_parameters(changed("megascale-moe-352b", "experts=64").model).total - before,
            338'228'674'560 + 7'864'320);
}

// Every matrix of megascale-352b has one side of the hidden width, and every norm is as long: all double with it.
TEST(Changes, TheHiddenWidthBringsNormsAlong) {
  const std::int64_t before = count_parameters(load_scenario("megascale-moe-352b").model).total;
  EXPECT_EQ(count_parameters(changed("megascale-moe-352b", "hidden=8192").model).total, 2 * before);
}

// gpt-oss alternates two kinds of layers, DeepSeek-V3 begins with three dense ones.
TEST(Changes, LayersGoOnAsTheyWere) {
  const std::vector<int> alternating = changed("megascale-moe-352b", "model=gpt-oss-20b,layers=27").model.layers;
  ASSERT_EQ(alternating.size(), 27u);
  for (std::size_t layer = 2; layer < alternating.size(); ++layer)
    EXPECT_EQ(alternating[layer], alternating[layer - 2]) << layer;
  EXPECT_NE(alternating[25], alternating[26]);

  const Model longer = changed("deepseek-v3-2048", "layers=64").model;
  EXPECT_TRUE(longer.layer(63).feed_forward.is_moe());
  EXPECT_FALSE(longer.layer(2).feed_forward.is_moe());
  const Model shorter = changed("deepseek-v3-2048", "layers=2").model;
  EXPECT_EQ(shorter.num_layers(), 2);
  EXPECT_FALSE(shorter.layer(1).feed_forward.is_moe());
}

TEST(Changes, AreRefusedWithTheNearestNameOrWhatIsAllowed) {
  expect_refused("gpu=8", "gpu", "did you mean 'gpus'?");
  expect_refused("hiden=8", "hiden", "did you mean 'hidden'?");
  expect_refused("nvlnk=8", "nvlnk", "did you mean 'nvlink'?");
  expect_refused("nic=fast", "nic", "fast");
  expect_refused("top_k=0", "top_k", "1 to");
  expect_refused("imbalance=0.9", "imbalance", "1 or more");
  expect_refused("memory=512 MiB", "memory", "too small");
  expect_refused("oversubscription=0.5", "oversubscription", "1 to 1000");
  expect_refused("dense_width=1024", "dense_width", "no layer of megascale-352b");
  expect_refused("model=no-such-model", "", "no-such-model");
}

// Every name that is offered can be set: no two of them clash, and none is only known by name.
TEST(Changes, EveryNameIsKnownOnce) {
  std::vector<std::string> names = change_names();
  for (const std::string& name : names) {
    EXPECT_NO_THROW(require_known_field(name));
    EXPECT_NE(changes_help().find("  " + name + " "), std::string::npos) << name;
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

// All tokens to one rank's experts: EP times the balanced rows, as long as the rank has top-k experts for a token; with
// one expert a rank, only one of a token's top-k rows can go there: experts / top-k = 32 / 3.
TEST(Imbalance, HasALimit) {
  const auto largest = [](const std::string& changes) {
    const Scenario scenario = changed("megascale-moe-352b", changes);
    return largest_imbalance(scenario.model, scenario.plan);
  };
  EXPECT_EQ(largest("ep=8"), 8);
  EXPECT_EQ(largest("ep=32"), 32.0 / 3);
  EXPECT_EQ(largest("ep=1"), 1);
}

TEST(Imbalance, BeyondItsLimitIsSimulatedAtTheLimit) {
  Scenario scenario = changed("megascale-moe-352b", "ep=2,imbalance=2");
  const Duration at_limit = simulate(scenario).step;
  scenario.imbalance = 1000;
  EXPECT_EQ(simulate(scenario).step, at_limit);
  scenario.imbalance = 1;
  EXPECT_LT(simulate(scenario).step, at_limit);
}

// The bisected imbalance is where memory ends, to its resolution of a thousandth.
TEST(Imbalance, ThatFillsMemory) {
  Scenario scenario = load_scenario("megascale-moe-352b");
  const double full = imbalance_that_fills_memory(scenario.model, scenario.cluster, scenario.plan);
  ASSERT_GT(full, 1.01);
  ASSERT_LT(full, 8);
  scenario.imbalance = full;
  EXPECT_FALSE(simulate(scenario).memory.fits());
  scenario.imbalance = full - 0.002;
  EXPECT_TRUE(simulate(scenario).memory.fits());
}

TEST(Simulate, RefusesWhatCannotBe) {
  EXPECT_THROW(simulate(changed("megascale-moe-352b", "gpus=250")), UserError);
  EXPECT_THROW(simulate(changed("megascale-moe-352b", "seq_len=1073741824,nvlink=1MB/s")), UserError);
}

TEST(Sweep, IsTheProductWithTheLastKeyFastest) {
  const auto product = cross_product({"ep=1,2", "nic=200G,400G"});
  ASSERT_EQ(product.size(), 4u);
  std::string order;
  for (const auto& changes : product) order += changes[0].key + changes[0].value + changes[1].value + " ";
  EXPECT_EQ(order, "ep1200G ep1400G ep2200G ep2400G ");
  for (const char* sweep : {"ep", "ep=", "=1", "ep=1,,2", "eep=1"})
    EXPECT_THROW(cross_product({sweep}), UserError) << sweep;
}

TEST(Sweep, IsLimited) {
  std::string sweep = "gpus=1";
  for (int value = 2; value <= 400; ++value) sweep += "," + std::to_string(value);
  EXPECT_EQ(cross_product({sweep}).size(), 400u);
  EXPECT_THROW(cross_product({sweep, sweep}), UserError);  // 160,000
}

// The text names each term with the numbers that docs and papers give: 282.5 GFLOP a token, 18 bytes a parameter.
TEST(Explain, ShowsTheTermsWithTheirNumbers) {
  const Scenario scenario = load_scenario("megascale-moe-352b");
  const std::string text = explain(scenario.model, scenario.cluster, scenario.plan, 1);
  for (const char* part : {"FLOPs per token = 6 x 45.07 B active matrix parameters",
                           "3 x 2 x 32 heads x (128 + 128) x span 4096 x 60 layers", "= 282.5 GFLOP",
                           "2 weight + 4 gradient + 4 master + 2 x 4 moments = 18 bytes", "14 / (2 x 60)", "44 (chunk",
                           "dense x 12 / 96", "expert x 12 / 12", "    1.5: ", "it no longer fits from"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

}  // namespace
}  // namespace msmoe::simulator
