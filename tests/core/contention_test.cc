#include "core/contention.h"

#include <gtest/gtest.h>

#include "core/cluster.h"
#include "core/profile.h"
#include "core/program.h"

namespace msmoe {
namespace {

TEST(Contention, TransferByHand) {
  EXPECT_DOUBLE_EQ(slowed_transfer(0, 1.5, 0.4), 1.6);  // nothing hides the wait
  EXPECT_DOUBLE_EQ(slowed_transfer(1, 1.5, 0.4), 1);    // the wire hides all of it
  EXPECT_DOUBLE_EQ(slowed_transfer(0.5, 1, 0), 1);
  EXPECT_NEAR(slowed_transfer(0.5, 1, 1), 1.92425, 1e-5);  // (1/8 + 7/8 * 8)^(1/3) = 7.125^(1/3)
}

// Never quicker than alone, slower the more it is crowded, and the less its wire binds.
TEST(Contention, TransfersSlowDownMonotonously) {
  for (double wire = 0; wire < 1; wire += 0.1) {
    double before = 1;
    for (double crowds = 0; crowds < 2; crowds += 0.25) {
      const double now = slowed_transfer(wire, 1, crowds);
      EXPECT_GE(now, before);
      EXPECT_LE(slowed_transfer(wire + 0.1, 1, crowds), now);
      before = now;
    }
  }
}

TEST(Contention, OperatorByHand) {
  EXPECT_DOUBLE_EQ(slowed_operator(0.5, pressing(16.0 / 128, 0.125)), 1.125);
  EXPECT_DOUBLE_EQ(slowed_operator(0, 1), 1);
}

TEST(Contention, EveryKindHasAName) {
  for (int of = 0; of < kNumFittedOperators; ++of)
    EXPECT_STRNE(crowd_kind_name(crowd_kind(static_cast<FittedOperator>(of))), "");
  for (const Collective of : {Collective::kAllGather, Collective::kReduceScatter, Collective::kAllToAll,
                              Collective::kAllReduce, Collective::kSend})
    EXPECT_LT(wait_kind(of), kNumWaitKinds);
}

// One GPU has no pairs: what two H200 measured stands in.
TEST(Contention, ProfilesWithoutPairsTakeThoseThatShip) {
  ASSERT_FALSE(find_profile("h100").contention);
  const Contention& pairs = *find_profile(kPairsProfile).contention;
  EXPECT_EQ(find_cluster("h100").contention.crowds, pairs.crowds);
  EXPECT_EQ(find_cluster("h200").contention.gpu, "NVIDIA H200");
}

}  // namespace
}  // namespace msmoe
