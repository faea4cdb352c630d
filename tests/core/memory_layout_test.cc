// Places in memory: what lives at the same time shares no byte, and little is wasted.
#include "core/memory_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/lowering/merge.h"
#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

std::int64_t most_alive(const std::vector<Life>& lives) {
  std::int64_t most = 0;
  for (const Life& moment : lives) {
    std::int64_t now = 0;
    for (const Life& life : lives)
      if (life.first <= moment.first && moment.first <= life.last) now += life.bytes;
    most = std::max(most, now);
  }
  return most;
}

void expect_apart(const std::vector<Life>& lives, const Placement& placement) {
  for (std::size_t a = 0; a < lives.size(); ++a) {
    EXPECT_EQ(placement.offset[a] % kTensorAlignment, 0);
    EXPECT_LE(placement.offset[a] + lives[a].bytes, placement.extent);
    for (std::size_t b = 0; b < a; ++b) {
      const bool meet = lives[a].first <= lives[b].last && lives[b].first <= lives[a].last;
      const bool overlap = placement.offset[a] < placement.offset[b] + lives[b].bytes &&
                           placement.offset[b] < placement.offset[a] + lives[a].bytes;
      EXPECT_FALSE(meet && overlap) << a << " and " << b;
    }
  }
}

// The first and the third meet only the second: they share.
TEST(Place, SharesWhatIsFree) {
  const std::vector<Life> lives = {{1000, 0, 1}, {500, 1, 2}, {1000, 2, 3}};
  const Placement placement = place(lives);
  expect_apart(lives, placement);
  EXPECT_EQ(placement.offset[0], placement.offset[2]);
  EXPECT_EQ(placement.extent, 1024 + 512);
}

TEST(Place, BothEndsAreIncluded) {
  const Placement placement = place({{256, 0, 1}, {256, 1, 2}});
  EXPECT_NE(placement.offset[0], placement.offset[1]);
  EXPECT_EQ(placement.extent, 512);
}

TEST(Place, NothingNeedsNoRoom) {
  EXPECT_EQ(place({}).extent, 0);
  EXPECT_EQ(place_in_order({}).extent, 0);
}

// Two sizes come and go, each as often as the other: what went leaves room for what comes.
TEST(PlaceInOrder, FillsTheGapThatFits) {
  std::vector<Life> lives;
  for (int i = 0; i < 100; ++i) {
    lives.push_back({1024, i, i + 3});
    lives.push_back({768, i, i + 4});
  }
  const Placement placement = place_in_order(lives);
  expect_apart(lives, placement);
  EXPECT_EQ(placement.extent, most_alive(lives));
}

TEST(Place, AnyLivesAreApart) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<Life> lives(1 + random() % 30);
    for (Life& life : lives) {
      life.bytes = static_cast<std::int64_t>(kTensorAlignment * (1 + random() % 40));
      life.first = static_cast<int>(random() % 20);
      life.last = life.first + static_cast<int>(random() % 8);
    }
    const Placement placement = place(lives);
    expect_apart(lives, placement);
    EXPECT_GE(placement.extent, most_alive(lives));
    EXPECT_LE(static_cast<double>(placement.extent), 1.5 * static_cast<double>(most_alive(lives)));
    expect_apart(lives, place_in_order(lives));
  }
}

// Whatever a pass touches has a place in it, but for what passes between modules.
TEST(ModuleLayout, HasPlacesForAllTensors) {
  const Model model = find_model("mixtral-8x7b");
  for (const char* recompute : {"none", "selective", "full"}) {
    const Module module = lower_layer(
        model, plan_with({{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}, {"recompute", recompute}}), 0,
        {});
    const ModuleLayout layout = lay_out(module);
    const auto expect_places = [&](const std::vector<Operator>& pass, const Places& transient, bool is_parted) {
      for (const Operator& op : pass) {
        for (const std::vector<std::int16_t>* tensors : {&op.reads, &op.writes}) {
          for (const std::int16_t id : *tensors) {
            if (id == module.output || id == module.output_gradient || id == module.input_gradient) continue;
            const bool is_left =
                module.tensors[static_cast<std::size_t>(id)].kept || (is_parted && layout.is_for_weights(id));
            EXPECT_NE(transient.has(id), is_left)
                << op.name << " and " << module.tensors[static_cast<std::size_t>(id)].name;
          }
        }
      }
    };
    expect_places(module.forward, layout.forward, false);
    expect_places(module.backward, layout.backward, false);
    expect_places(input_gradients(module), layout.input_gradients, true);
    EXPECT_GE(static_cast<double>(layout.forward.extent), module.forward_peak.count);
    EXPECT_GE(static_cast<double>(layout.backward.extent), module.backward_peak.count);
    EXPECT_LE(static_cast<double>(layout.forward.extent), 1.03 * module.forward_peak.count);
    EXPECT_LE(static_cast<double>(layout.backward.extent), 1.03 * module.backward_peak.count);
  }
}

}  // namespace
}  // namespace msmoe
