#include "reports/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace msmoe::reports {
namespace {

using nlohmann::ordered_json;

TEST(Json, KeepsTheOrderOfKeysAndIndentsByTwo) {
  ordered_json value;
  value["step_seconds"] = 4.02;
  value["fits"] = true;
  value["a"] = {1, 2};
  value["none"] = nullptr;
  value["nested"]["empty_list"] = ordered_json::array();
  value["nested"]["empty_object"] = ordered_json::object();
  EXPECT_EQ(dump_json(value),
            "{\n"
            "  \"step_seconds\": 4.02,\n"
            "  \"fits\": true,\n"
            "  \"a\": [\n"
            "    1,\n"
            "    2\n"
            "  ],\n"
            "  \"none\": null,\n"
            "  \"nested\": {\n"
            "    \"empty_list\": [],\n"
            "    \"empty_object\": {}\n"
            "  }\n"
            "}\n");
}

TEST(Json, DoublesAreShortestAndStayDoubles) {
  EXPECT_EQ(dump_json(0.1), "0.1\n");
  EXPECT_EQ(dump_json(4.0), "4.0\n");
  EXPECT_EQ(dump_json(-0.0), "-0.0\n");
  EXPECT_EQ(dump_json(0.1 + 0.2), "0.30000000000000004\n");
  EXPECT_EQ(dump_json(1e300), "1e+300\n");
  EXPECT_EQ(dump_json(5e-324), "5e-324\n");
  EXPECT_EQ(dump_json(std::int64_t{9007199254740993}), "9007199254740993\n");
  EXPECT_EQ(dump_json(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615\n");
}

TEST(Json, EveryDoubleReadsBackToTheSameBits) {
  std::mt19937_64 random(1);
  for (int sample = 0; sample < 100000; ++sample) {
    const std::uint64_t bits = random();
    double value = 0;
    static_assert(sizeof value == sizeof bits);
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    const ordered_json back = ordered_json::parse(dump_json(value));
    ASSERT_TRUE(back.is_number_float());
    ASSERT_EQ(back.get<double>(), value);
  }
}

TEST(Json, TextIsEscaped) {
  EXPECT_EQ(dump_json("a \"b\" \\ \n \x01 é"), "\"a \\\"b\\\" \\\\ \\n \\u0001 é\"\n");
  EXPECT_EQ(dump_json("bad \xff byte"), "\"bad \xEF\xBF\xBD byte\"\n");
  EXPECT_EQ(dump_json(ordered_json{{"k\"", 1}}), "{\n  \"k\\\"\": 1\n}\n");
}

TEST(JsonDeathTest, NotANumberIsOurBug) {
#ifdef NDEBUG
  GTEST_SKIP() << "assertions are off in this build";
#else
  EXPECT_DEATH(dump_json(std::numeric_limits<double>::quiet_NaN()), "isfinite");
  EXPECT_DEATH(dump_json(ordered_json{{"a", {HUGE_VAL}}}), "isfinite");
#endif
}

TEST(Json, ErrorsHaveOneShape) {
  EXPECT_EQ(dump_json(error_json(2, "gpu.sms: 0 is too small", "at least 1")),
            "{\n"
            "  \"error\": {\n"
            "    \"code\": 2,\n"
            "    \"message\": \"gpu.sms: 0 is too small\",\n"
            "    \"hint\": \"at least 1\"\n"
            "  }\n"
            "}\n");
}

}  // namespace
}  // namespace msmoe::reports
