#include "profiler/fits.h"

#include <gtest/gtest.h>

#include "core/cluster.h"
#include "core/lowering/module_builder.h"
#include "profiler/case_terms.h"
#include "profiler/grids.h"
#include "profiler/profile_file.h"

namespace msmoe::profiler {
namespace {

Gpu gpu() { return find_cluster("h100").gpu; }

// Points of the grid that take exactly what the coefficients say.
std::vector<Point> points_of(const char* kind, const char* what, const Terms& coefficients) {
  std::vector<Point> points;
  for (const Case& of : cases_of_kind(kind, 1, false))
    if (of.what == what)
      points.push_back({of, seconds(quickest(coefficients, terms_of(of, gpu())).seconds), Duration{0}, 1});
  return points;
}

Fit fit_of(const std::vector<Point>& points) {
  std::vector<const Point*> pointers;
  for (const Point& point : points) pointers.push_back(&point);
  return fit_points(pointers, points.front().of.what, gpu());
}

TEST(Fits, MemoryTermsAreRecovered) {
  const Fit fit = fit_of(points_of("rows", "swi_glu", {3, 1.25}));
  EXPECT_NEAR(fit.coefficients[0], 3, 1e-3);
  EXPECT_NEAR(fit.coefficients[1], 1.25, 1e-6);
  EXPECT_GT(fit.points, 0);
  EXPECT_GT(fit.held_out.points, 0);
  EXPECT_LT(fit.held_out.p95, 1e-6);
}

TEST(Fits, ProductsAreRecoveredThoughTheirTilesAreUnknown) {
  for (const auto& [kind, what] : {std::pair{"gemm", "gemm_forward"},
                                   {"gemm", "gemm_weight_gradient"},
                                   {"grouped_gemm", "grouped_gemm_input_gradient"}}) {
    const Fit fit = fit_of(points_of(kind, what, {4, 0.4, 0.8, 1, 0.1, 1, 0.8}));
    EXPECT_LT(fit.held_out.p95, 0.02) << what;
  }
}

TEST(Fits, AttentionIsRecovered) {
  EXPECT_LT(fit_of(points_of("attention", "attention_backward", {30, 1.1, 0.6, 3, 8, 0.8, 0.1})).held_out.p95, 1e-4);
}

// What the simulator will ask about is what was fitted: the same FLOPs and bytes as the lowering's.
TEST(Fits, ShapesAreThoseOfTheLowering) {
  const auto expect_same = [](const Case& of, const Compute& work) {
    const bool grouped = work.kind == ComputeKind::kGroupedGemm;
    const ProductShape shape{.rows = static_cast<double>(work.m),
                             .columns = static_cast<double>(work.n),
                             .depth = static_cast<double>(work.k),
                             .groups = static_cast<double>(work.groups),
                             .hbm = work.hbm};
    const TermChoices lowered = product_terms(grouped ? form_of(of) : CostForm::kGemm, shape, gpu(), gpu().bf16_peak);
    const TermChoices measured = terms_of(of, gpu());
    ASSERT_EQ(lowered.all().size(), measured.all().size());
    for (std::size_t tile = 0; tile < lowered.all().size(); ++tile)
      EXPECT_EQ(lowered.all()[tile].terms, measured.all()[tile].terms) << of.key();
  };
  const std::map<std::string, std::int64_t> dense = {{"tokens", 4096}, {"out", 6144}, {"in", 2048}},
                                            grouped = {{"experts", 8}, {"rows", 8192}, {"out", 6144}, {"in", 2048}};
  constexpr auto kBf16 = Precision::kBf16;
  constexpr double kFp32Bytes = 4;
  expect_same({"gemm_forward", dense}, gemm(4096, 6144, 2048, kBf16));
  expect_same({"gemm_input_gradient", dense}, gemm(4096, 2048, 6144, kBf16));
  expect_same({"gemm_weight_gradient", dense}, weight_gradient_gemm(1, 4096, 6144, 2048, kFp32Bytes, kBf16));
  expect_same({"grouped_gemm_forward", grouped}, grouped_gemm(8, 8192, 6144, 2048, kBf16));
  expect_same({"grouped_gemm_input_gradient", grouped}, grouped_gemm(8, 8192, 2048, 6144, kBf16));
  expect_same({"grouped_gemm_weight_gradient", grouped}, weight_gradient_gemm(8, 8192, 6144, 2048, kFp32Bytes, kBf16));
}

// As core/cost_terms.cc chooses the kernel.
TEST(Fits, ShortWeightGradientsHaveTheirOwn) {
  const auto of = [](const char* what, std::int64_t rows) {
    return fitted_as({what, {{"experts", 8}, {"rows", 8 * rows}, {"out", 6144}, {"in", 2048}}});
  };
  EXPECT_EQ(of("grouped_gemm_weight_gradient", 2047), "grouped_gemm_weight_gradient_short");
  EXPECT_EQ(of("grouped_gemm_weight_gradient", 2048), "grouped_gemm_weight_gradient");
  EXPECT_EQ(of("grouped_gemm_weight_gradient", 383), "grouped_gemm_weight_gradient");
  EXPECT_EQ(of("grouped_gemm_forward", 2047), "grouped_gemm_forward");
}

// Two routed copies of each of 1000 rows: 1000 read, 2000 written, 512 in bf16 each.
TEST(Fits, TrafficByHand) {
  EXPECT_EQ(traffic_of({"gather_rows", {{"rows", 1000}, {"width", 512}, {"choices", 2}}}).count, 3000.0 * 512 * 2);
  EXPECT_EQ(traffic_of({"adam_w", {{"rows", 10}, {"width", 10}}}).count, 100.0 * 30);
  EXPECT_EQ(traffic_of({"sum_chunks", {{"rows", 10}, {"width", 10}, {"parts", 8}}}).count, 100.0 * (16 + 4));
  EXPECT_EQ(traffic_of({"quantize", {{"rows", 128}, {"width", 1}}}).count, 128.0 * 3 + 4);
}

// Every operator of the grids can be fitted.
TEST(Fits, EveryOperatorHasTerms) {
  for (const char* kind : {"gemm", "grouped_gemm", "attention", "rows"})
    for (const Case& of : cases_of_kind(kind, 1, true))
      EXPECT_TRUE(of.what == "launch" || has_terms(of.what)) << of.key();
  for (const Case& of : cases_of_kind("layers", 1, true))
    for (const Case& one : operators_of_layer(of)) EXPECT_TRUE(has_terms(one.what)) << one.key();
  for (const Case& of : cases_of_kind("pairs", 2, true)) EXPECT_FALSE(has_terms(of.what)) << of.key();
}

// ---- The profiles that ship.

class ShippedProfile : public testing::TestWithParam<const char*> {
 protected:
  std::string path = std::string(MSMOE_SOURCE_DIR) + "/clusters/" + GetParam() + ".profile.json";
  Measurement measurement = read_measurement(path);
  ProfileFits fits = fit_profile(measurement.points, find_cluster(GetParam()).gpu, measurement.conditions.at("gpu"));
};

TEST_P(ShippedProfile, HoldsTheFitsOfItsPoints) {
  const Profile& profile = find_profile(GetParam());
  ASSERT_EQ(profile.fits.size(), fits.fits.size());
  for (const Fit& fit : fits.fits) {
    const Fit* shipped = profile.find(fit.of);
    ASSERT_NE(shipped, nullptr) << fit.of;
    for (std::size_t term = 0; term < fit.coefficients.size(); ++term)
      EXPECT_NEAR(shipped->coefficients[term], fit.coefficients[term], 1e-3 * fit.coefficients[term] + 1e-9) << fit.of;
  }
}

TEST_P(ShippedProfile, PredictsShapesThatItWasNotFittedTo) {
  constexpr double kMedian = 0.04, kP95 = 0.12;
  for (const char* kind : {"gemm", "grouped_gemm", "attention"}) {
    EXPECT_GE(fits.errors.at(kind).points, 40) << kind;
    EXPECT_LE(fits.errors.at(kind).median, kMedian) << kind;
    EXPECT_LE(fits.errors.at(kind).p95, kP95) << kind;
  }
  if (!fits.collectives.empty()) {
    EXPECT_LE(fits.errors.at("collectives").median, kMedian);
    EXPECT_LE(fits.errors.at("collectives").p95, kP95);
  }
}

TEST_P(ShippedProfile, PredictsWholeLayers) {
  EXPECT_EQ(fits.errors.at("layers").points, 4);
  EXPECT_LE(fits.errors.at("layers").p95, 0.05);
}

INSTANTIATE_TEST_SUITE_P(All, ShippedProfile, testing::Values("h100", "h200"),
                         [](const auto& profile) { return std::string(profile.param); });

}  // namespace
}  // namespace msmoe::profiler
