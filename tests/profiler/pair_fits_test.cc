#include "profiler/pair_fits.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/cluster.h"
#include "profiler/grids.h"
#include "profiler/profile_file.h"

namespace msmoe::profiler {
namespace {

Gpu gpu() { return find_cluster("h200").gpu; }

constexpr double kLeastSeconds = 160e-6;

// A transfer takes twice as long by four blocks as by eight, and so on.
double alone_seconds(const Case& link) {
  const auto ctas = link.shape.find("ctas");
  return ctas == link.shape.end() ? kLeastSeconds : kLeastSeconds * 20 / static_cast<double>(ctas->second);
}

// The pairs of the grid, of operators that crowd by 0.3 and yield 0.5 of what presses, and collectives that wait by 1,
// 1.5 and 2; and the collectives alone.
std::vector<Point> points() {
  std::vector<Point> points;
  for (const Case& of : cases_of_kind("pairs", 2, false)) {
    const auto [compute, link] = sides_of(of);
    const double alone = alone_seconds(link);
    const auto kind = std::ranges::find(kWaitKindNames, link.what) - kWaitKindNames.begin();
    const double waits = kind < kNumWaitKinds ? 1 + 0.5 * static_cast<double>(kind) : 0;
    const double sent = static_cast<double>(link.shape.at("bytes")) * (kind < kNumWaitKinds ? 0.5 : 1);
    const double sms = link.shape.contains("ctas") ? static_cast<double>(link.shape.at("ctas")) / 132 : 0;
    Point operated{of, seconds(1e-3 * (1 + 0.5 * (sms + 2 * sent / alone / gpu().hbm.count))), Duration{0}, 1};
    operated.alone = seconds(1e-3);
    Point transferred{partner_of(of), seconds(alone * slowed_transfer(kLeastSeconds / alone, waits, 0.3)), Duration{0},
                      1};
    transferred.alone = seconds(alone);
    points.push_back(operated);
    points.push_back(transferred);
  }
  for (const char* what : kWaitKindNames)
    points.push_back({{what, {{"bytes", 64 << 20}, {"ranks", 2}}}, seconds(kLeastSeconds), Duration{0}, 1});
  return points;
}

TEST(PairFits, ContentionIsRecovered) {
  const auto fit = fit_pairs(points(), gpu(), "NVIDIA H200");
  ASSERT_TRUE(fit);
  for (const double crowds : fit->contention.crowds) EXPECT_NEAR(crowds, 0.3, 1e-4);
  for (const double yields : fit->contention.yields) EXPECT_NEAR(yields, 0.5, 1e-4);
  EXPECT_DOUBLE_EQ(fit->contention.waits[0], 1);
  EXPECT_NEAR(fit->contention.waits[1], 1.5, 1e-3);
  EXPECT_NEAR(fit->contention.waits[2], 2, 1e-3);
  EXPECT_EQ(fit->contention.gpu, "NVIDIA H200");
  ASSERT_GE(fit->errors.size(), 30u);
  EXPECT_LT(std::ranges::max(fit->errors), 1e-4);
}

TEST(PairFits, WithoutAKindThereIsNoFit) {
  std::vector<Point> without_attention = points(), without_alone = points();
  std::erase_if(without_attention, [](const Point& p) { return p.of.what.find("attention") != std::string::npos; });
  std::erase_if(without_alone, [](const Point& p) { return p.of.what == "reduce_scatter"; });
  EXPECT_FALSE(fit_pairs(without_attention, gpu(), ""));
  EXPECT_FALSE(fit_pairs(without_alone, gpu(), ""));
  EXPECT_FALSE(fit_pairs({}, gpu(), ""));
}

// Both sides' slow-downs, of pairs that were not fitted to.
TEST(PairFits, PredictsWhatTwoH200Measured) {
  const std::string path = std::string(MSMOE_SOURCE_DIR) + "/clusters/h200.profile.json";
  auto fit = fit_pairs(read_measurement(path).points, gpu(), "NVIDIA H200");
  ASSERT_TRUE(fit);
  std::vector<double>& errors = fit->errors;
  ASSERT_GE(errors.size(), 40u);
  const auto within = std::ranges::count_if(errors, [](double error) { return error <= 0.1; });
  EXPECT_GE(static_cast<double>(within), 0.9 * static_cast<double>(errors.size()));
}

}  // namespace
}  // namespace msmoe::profiler
