#include "core/cost_terms.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace msmoe {
namespace {

Gpu gpu() {
  Gpu gpu;
  gpu.bf16_peak = {1e15};
  gpu.hbm = {1e12};
  gpu.sms = 100;
  return gpu;
}

double flops_term(const TileTerms& tile) { return tile.terms[1]; }
double waves_term(const TileTerms& tile) { return tile.terms[2]; }
double hbm_term(const TileTerms& tile) { return tile.terms[7]; }

// 200 tiles of 128 x 256 on 100 SMs are two whole waves: 2 * 128 * 256 * 512 FLOPs each on 10 TFLOP/s.
TEST(CostTerms, GroupedProductByHand) {
  const ProductShape shape{.rows = 20 * 128, .columns = 10 * 256, .depth = 512, .groups = 20, .hbm = {1e6}};
  const TermChoices choices = product_terms(CostForm::kGroupedGemm, shape, gpu(), gpu().bf16_peak);
  ASSERT_EQ(choices.all().size(), 1u);
  const TileTerms& tile = choices.all().front();
  EXPECT_DOUBLE_EQ(tile.tiles_per_sm, 2);
  const double tile_seconds = 2.0 * 128 * 256 * 512 / 1e13;
  EXPECT_DOUBLE_EQ(flops_term(tile), 2 * tile_seconds);
  EXPECT_DOUBLE_EQ(waves_term(tile), 2 * tile_seconds);
  EXPECT_DOUBLE_EQ(tile.terms[3], 2 * tile_seconds * 256 / 512);
  EXPECT_DOUBLE_EQ(tile.terms[4], 2 * (128 + 256) * 512 * 2.0 * 100 / 10e12);
  EXPECT_DOUBLE_EQ(tile.terms[5], 2 * 8 * 10e-9);
  EXPECT_EQ(hbm_term(tile), 0);  // 1 us of bytes hide behind 6.7 us of multiplications
}

// The other kernel of weight gradients has tiles half as large: twice as many, as many waves more.
TEST(CostTerms, ShortGroupedProductsHaveSmallerTiles) {
  const ProductShape shape{.rows = 20 * 128, .columns = 10 * 256, .depth = 512, .groups = 20, .hbm = {}};
  const TermChoices large = product_terms(CostForm::kGroupedGemm, shape, gpu(), gpu().bf16_peak);
  const TermChoices small = product_terms(CostForm::kGroupedGemmShort, shape, gpu(), gpu().bf16_peak);
  ASSERT_EQ(small.all().size(), 1u);
  EXPECT_DOUBLE_EQ(small.all().front().tiles_per_sm, 2 * large.all().front().tiles_per_sm);
  EXPECT_DOUBLE_EQ(flops_term(small.all().front()), flops_term(large.all().front()));
}

TEST(CostTerms, WeightGradientsAreShortBetweenFewRowsAndMany) {
  EXPECT_FALSE(has_short_weight_gradients(8 * 383, 8));
  EXPECT_TRUE(has_short_weight_gradients(8 * 384, 8));
  EXPECT_TRUE(has_short_weight_gradients(8 * 2047, 8));
  EXPECT_FALSE(has_short_weight_gradients(8 * 2048, 8));
  EXPECT_FALSE(has_short_weight_gradients(128 * 1024, 128));
}

// One row more in every group is a tile more in every group, and a wave more.
TEST(CostTerms, TilesAreWhole) {
  const auto tile_of = [](double rows_each) {
    const ProductShape shape{.rows = 20 * rows_each, .columns = 10 * 256, .depth = 512, .groups = 20, .hbm = {}};
    return product_terms(CostForm::kGroupedGemm, shape, gpu(), gpu().bf16_peak).all().front();
  };
  EXPECT_DOUBLE_EQ(flops_term(tile_of(129)), 2 * flops_term(tile_of(128)));
  EXPECT_DOUBLE_EQ(waves_term(tile_of(129)), 2 * waves_term(tile_of(128)));
}

TEST(CostTerms, HbmCountsWhereItIsTheLongerPart) {
  const ProductShape shape{.rows = 128, .columns = 256, .depth = 64, .groups = 1, .hbm = {1e9}};
  const TermChoices choices = product_terms(CostForm::kGroupedGemm, shape, gpu(), gpu().bf16_peak);
  const TileTerms& tile = choices.all().front();
  EXPECT_DOUBLE_EQ(hbm_term(tile) + flops_term(tile), 1e-3);
}

// A dense product takes the quickest tile: small ones where there are few rows.
TEST(CostTerms, ProductsChooseTheirTile) {
  Terms waves_alone{};
  waves_alone[2] = 1;
  const auto seconds = [&](double rows) {
    const ProductShape shape{.rows = rows, .columns = 640, .depth = 512, .groups = 1, .hbm = {}};
    return quickest(waves_alone, product_terms(CostForm::kGemm, shape, gpu(), gpu().bf16_peak)).seconds;
  };
  EXPECT_DOUBLE_EQ(seconds(64), 2.0 * 64 * 64 * 512 / 1e13);
  EXPECT_LE(seconds(64), seconds(1024));
}

// 100 rows, no multiple of any tile: 2 x 100 x 10 x 1000 = 2e6 FLOPs at 1e12 a second.
TEST(CostTerms, WithoutTilesNothingIsPadded) {
  const ProductShape shape{.rows = 100, .columns = 10, .depth = 1000, .groups = 4, .hbm = {3 * gpu().hbm.count * 1e-6}};
  const TermChoices choices = untiled_product_terms(shape, gpu(), {1e12});
  ASSERT_EQ(choices.all().size(), 1u);
  const Terms& terms = choices.all().front().terms;
  EXPECT_DOUBLE_EQ(terms[0], 1e-6);
  EXPECT_DOUBLE_EQ(terms[1], 2e-6);
  EXPECT_DOUBLE_EQ(terms[7], 1e-6);  // 3 us of traffic, 2 of them beside the products
  for (const std::size_t tiled : {2u, 3u, 4u, 5u, 6u}) EXPECT_EQ(terms[tiled], 0) << tiled;
  EXPECT_EQ(choices.all().front().tiles_per_sm, 0);
}

TEST(CostTerms, AttentionByHand) {
  // 4 heads of 1024 queries each: 32 blocks of 128; every query meets 512 keys on average.
  const AttentionShape shape{.queries = 1024, .span = 512, .heads = 4, .width = 192, .flops = {1e12}, .hbm = {1e9}};
  const TermChoices choices = attention_terms(shape, gpu(), gpu().bf16_peak);
  const Terms& terms = choices.all().front().terms;
  EXPECT_DOUBLE_EQ(terms[1], 1e-3);
  EXPECT_DOUBLE_EQ(terms[2], 1e-3);  // 64 wider than 128
  EXPECT_DOUBLE_EQ(terms[3], 1024 * 512 * 4 / (16 * 1.7e9 * 100));
  EXPECT_DOUBLE_EQ(terms[4], 1e-3 / 4);
  EXPECT_DOUBLE_EQ(terms[5], 2e-3 / 32 * 100);
  EXPECT_DOUBLE_EQ(terms[6], 1e-3);
}

TEST(CostTerms, EveryFormNamesItsTerms) {
  for (const CostForm form : {CostForm::kGemm, CostForm::kGroupedGemm, CostForm::kGroupedGemmShort,
                              CostForm::kAttention, CostForm::kMemory}) {
    const auto names = term_names(form);
    EXPECT_LE(names.size(), std::size_t{kMostTerms});
    EXPECT_STREQ(names.front(), "start");
    EXPECT_STREQ(names.back(), "hbm");
  }
}

}  // namespace
}  // namespace msmoe
