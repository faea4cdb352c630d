// The question that MegaScale-MoE (arXiv 2505.11432) answers by hand: its 352B model on 1,440 H800 GPUs.
#include <gtest/gtest.h>

#include "planner/search.h"
#include "simulator/prediction.h"
#include "tests/planner/questions.h"

namespace msmoe::planner {
namespace {

TEST(Published, BestPlanIsAtLeastAsFastAsThePapers) {
  const Plan published = find_plan("megascale-moe-352b");
  const Question question =
      ask(published.model, published.cluster, published.gpus, published.global_batch, published.seq_len);
  // The same kernels for both.
  ASSERT_EQ(question.base.software, published.software);
  const SearchResult result = search(question);
  ASSERT_FALSE(result.best.empty());
  const simulator::Prediction paper = simulator::predict(question.model, question.cluster, published);
  EXPECT_TRUE(paper.memory.fits());
  EXPECT_LE(result.best.front().step, paper.step) << describe_plan(result.best.front().plan);
  // What the search says of its best plan is what the simulator says of it.
  EXPECT_EQ(result.best.front().step,
            simulator::predict(question.model, question.cluster, result.best.front().plan).step);
}

}  // namespace
}  // namespace msmoe::planner
