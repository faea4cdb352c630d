#include "simulator/fluid_rates.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/simulator/timeline_checker.h"

namespace msmoe::simulator {
namespace {

std::vector<double> rates_of(const std::vector<Demand>& demands) {
  std::vector<const Demand*> pointers;
  for (const Demand& demand : demands) pointers.push_back(&demand);
  std::vector<double> rates(demands.size(), -1);
  fluid_rates(pointers.data(), static_cast<int>(demands.size()), rates.data());
  return rates;
}

void expect_rates(const std::vector<Demand>& demands, const std::vector<double>& expected) {
  const std::vector<double> rates = rates_of(demands);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(rates[i], expected[i], 1e-6) << "demand " << i;
}

// SM 0.25 + 0.75 = 1, HBM 0.5 + 0.5 = 1.
TEST(FluidRates, DemandsThatFitRunAsIfAlone) {
  EXPECT_EQ(rates_of({{{0.25f, 0.5f, 0, 0}}, {{0.75f, 0.5f, 0, 0}}}), (std::vector<double>{1, 1}));
}

// 0.4f + 0.6f is 1 + 3e-8, and is meant to be 1.
TEST(FluidRates, SharesThatAddUpToOneInDecimalsFit) {
  EXPECT_EQ(rates_of({{{0.4f, 0, 0, 0}}, {{0.6f, 0, 0, 0}}}), (std::vector<double>{1, 1}));
}

TEST(FluidRates, EqualDemandsSplitAFullResource) {
  expect_rates({{{1, 0, 0, 0}}, {{1, 0, 0, 0}}}, {0.5, 0.5});
  expect_rates({{{0, 0, 0, 1}}, {{0, 0, 0, 1}}, {{0, 0, 0, 1}}}, {1.0 / 3, 1.0 / 3, 1.0 / 3});
}

// Rates, not amounts, are equal: x (1 + 0.5) = 1.
TEST(FluidRates, UnequalDemandsRiseTogether) { expect_rates({{{1, 0, 0, 0}}, {{0.5f, 0, 0, 0}}}, {2.0 / 3, 2.0 / 3}); }

// The kernel holds 20 of 132 SMs; the GEMM computes on the 112 left.
TEST(FluidRates, HoldersKeepTheirSms) {
  const Demand gemm{{1, 0.3f, 0, 0}, false}, send{{20.0f / 132, 0.1f, 1, 0}, true};
  expect_rates({gemm, send}, {112.0 / 132, 1});
  expect_rates({send, gemm}, {1, 112.0 / 132});
}

// A fused operator and a holder fill NVLink at rate 1/2. The holder keeps a quarter of the SMs at that rate, too, so
// the GEMM has 1 - 0.25 - 0.25 x 0.5 of them.
TEST(FluidRates, HoldersShareAllButSms) {
  expect_rates({{{0.25f, 0, 1, 0}}, {{0.25f, 0, 1, 0}, true}, {{1, 0, 0, 0}}}, {0.5, 0.5, 0.625});
}

// A GEMM that yields a half of what presses 0.2, beside a transfer that waits 1.5 times what crowds by 0.4.
TEST(FluidRates, PairsSlowEachOther) {
  Demand gemm{{0.8f, 0.3f}}, send{{0.1f, 0, 0.5f}, true};
  gemm.interference = {.crowds = 0.4f, .yields = 0.5f};
  send.interference = {.waits = 1.5f, .wire = 0, .presses = 0.2f};
  expect_rates({gemm, send}, {1 / 1.1, 1 / 1.6});
  send.interference.wire = 1;
  expect_rates({gemm, send}, {1 / 1.1, 1});
  EXPECT_EQ(rates_of({send, send}), (std::vector<double>{1, 1}));
}

// Whichever binds more: what is shared or how the pair slows. The GEMM has 112 of 132 SMs, and runs at 1 / 1.1 at most.
TEST(FluidRates, SharedResourcesStillBind) {
  Demand gemm{{1, 0.3f}}, send{{20.0f / 132}, true};
  gemm.interference.yields = 0.5f;
  send.interference.presses = 0.2f;
  expect_rates({gemm, send}, {112.0 / 132, 1});
  gemm.interference.yields = 2;
  expect_rates({gemm, send}, {1 / 1.4, 1});
}

// No SM is left for the third; the fourth needs none.
TEST(FluidRates, HoldersOfAllSmsStarveOthers) {
  expect_rates({{{0.5f, 0, 0, 0}, true}, {{0.5f, 0, 0, 0}, true}, {{0.1f, 0, 0, 0}}, {{0, 1, 0, 0}}}, {1, 1, 0, 1});
}

// Holders want 1.5 of the SMs: both run at 1 / 1.5. The third has none; the fourth has 1 - 0.25 x 2 / 3 of the NIC.
TEST(FluidRates, HoldersOfTooManySmsSlowDown) {
  expect_rates({{{1, 0, 0, 0}, true}, {{0.5f, 0, 0, 0.25f}, true}, {{0.1f, 0, 0, 0}}, {{0, 0, 0, 1}}},
               {2.0 / 3, 2.0 / 3, 0, 5.0 / 6});
}

// All rise to 0.5, where SM is full (2 x 0.5) and A and B stop. HBM has 1 - 0.5 x 0.5 - 0.5 = 0.25 left: C rises on by
// that, to 0.75. D needs neither.
TEST(FluidRates, TasksOnOtherResourcesRiseOn) {
  const Demand a{{1, 0, 0, 0}}, b{{1, 0.5f, 0, 0}}, c{{0, 1, 0, 0}}, d{{0, 0, 0.5f, 0}};
  expect_rates({a, b, c, d}, {0.5, 0.5, 0.75, 1});
}

// The holder leaves half of SM. Those on the NIC rise to 0.4, where it is full: (1 + 1 + 0.5) 0.4 = 1. SM has
// 1 - 0.5 - (0.5 + 0.25) 0.4 = 0.2 left: B rises on by 0.2 / 0.5.
TEST(FluidRates, ASecondLevelBesideAHolder) {
  expect_rates({{{0.5f, 0, 0, 1}, true}, {{0.5f, 0, 0, 0}}, {{0.25f, 0, 0, 1}}, {{0, 0, 0, 0.5f}}},
               {0.4, 0.8, 0.4, 0.4});
}

// Against bisection from the definition; shares in 1/8 make many ties, the others few.
TEST(FluidRates, AgreesWithBisection) {
  std::mt19937_64 random(20250511);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  for (int trial = 0; trial < 5000; ++trial) {
    std::vector<Task> tasks(1 + below(kMaxStreams));
    std::vector<Demand> demands;
    std::vector<const Task*> pointers;
    for (Task& task : tasks) {
      for (float& share : task.share) {
        if (below(3) != 0) share = trial % 2 ? below(9) / 8.0f : below(1'000'001) * 1e-6f;
      }
      task.holder = below(3) == 0;
      demands.push_back({task.share, task.holder});
      pointers.push_back(&task);
    }
    const std::vector<double> rates = rates_of(demands), naive = naive_rates(pointers);
    for (std::size_t i = 0; i < tasks.size(); ++i) ASSERT_NEAR(rates[i], naive[i], 1e-9) << "trial " << trial;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      ASSERT_TRUE(rates[i] == 0 || least_left_to(i, pointers, rates, true) > -1e-6) << "trial " << trial;
    }
  }
}

}  // namespace
}  // namespace msmoe::simulator
