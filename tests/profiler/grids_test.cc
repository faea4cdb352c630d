#include "profiler/grids.h"

#include <gtest/gtest.h>

#include <set>

namespace msmoe::profiler {
namespace {

TEST(Grids, NoCaseComesTwice) {
  for (const bool quick : {false, true}) {
    std::set<std::string> keys;
    for (const std::string& kind : case_kinds()) {
      const auto cases = cases_of_kind(kind, 2, quick);
      EXPECT_FALSE(cases.empty()) << kind;
      for (const Case& of : cases) EXPECT_TRUE(keys.insert(of.key()).second) << of.key();
    }
  }
}

TEST(Grids, OneGpuHasNoLinks) {
  EXPECT_TRUE(cases_of_kind("links", 1, false).empty());
  EXPECT_TRUE(cases_of_kind("pairs", 1, false).empty());
  EXPECT_FALSE(cases_of_kind("gemm", 1, false).empty());
}

TEST(Grids, APairComesApartAsItWasPutTogether) {
  for (const Case& of : cases_of_kind("pairs", 2, false)) {
    ASSERT_TRUE(is_pair(of));
    const Pair sides = sides_of(of);
    EXPECT_EQ(sides.compute.what + " beside " + sides.link.what, of.what);
    EXPECT_EQ(sides.compute.shape.size() + sides.link.shape.size(), of.shape.size());
    EXPECT_TRUE(sides.link.shape.contains("bytes") && !sides.compute.shape.contains("bytes"));
    EXPECT_EQ(partner_of(of).what, sides.link.what + " beside " + sides.compute.what);
  }
}

// Each product of the forward pass has both of its gradients.
TEST(Grids, ALayerGoesBackTheWayItCame) {
  for (const Case& layer : cases_of_kind("layers", 1, false)) {
    std::multiset<std::string> forward, backward;
    for (const Case& of : operators_of_layer(layer)) {
      const auto at = of.what.find("gemm_");
      if (at == std::string::npos) continue;
      const std::string pass = of.what.substr(at + 5);
      Case product = of;
      product.what = of.what.substr(0, at);
      (pass == "forward" ? forward : backward).insert(product.key());
      if (pass == "forward") forward.insert(product.key());
    }
    EXPECT_EQ(forward, backward) << layer.key();
  }
}

}  // namespace
}  // namespace msmoe::profiler
