#include "core/units_text.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace msmoe {
namespace {

using namespace std::chrono_literals;

const Place kPlace{"a.json", "key"};

template <class Parse>
std::string complaint(Parse parse) {
  try {
    parse();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(UnitsText, SizesKnowDecimalFromBinary) {
  EXPECT_EQ(parse_bytes("80 GB", kPlace).count, 80e9);
  EXPECT_EQ(parse_bytes("80 GiB", kPlace).count, 80.0 * 1024 * 1024 * 1024);
  EXPECT_EQ(parse_bytes("512KiB", kPlace).count, 512.0 * 1024);
  EXPECT_EQ(parse_bytes(" 2 TB ", kPlace).count, 2e12);
  EXPECT_EQ(parse_bytes("0 B", kPlace).count, 0);
}

// 400 Gb/s / 8 bits a byte = 50 GB/s.
TEST(UnitsText, BandwidthsKnowBitsFromBytes) {
  EXPECT_EQ(parse_bandwidth("450 GB/s", kPlace).count, 450e9);
  for (const char* text : {"400 Gb/s", "400G", "400 Gbps", "400 Gbit/s", "0.4 Tb/s", "400000 Mb/s", "50 GB/s"})
    EXPECT_DOUBLE_EQ(parse_bandwidth(text, kPlace).count, 50e9) << text;
  EXPECT_EQ(parse_bandwidth("1 GiB/s", kPlace).count, 1073741824.0);
}

TEST(UnitsText, RatesAndDurations) {
  EXPECT_EQ(parse_flop_rate("989 TFLOPS", kPlace).count, 989e12);
  EXPECT_EQ(parse_flop_rate("1.979 PFLOP/s", kPlace).count, 1.979e15);
  EXPECT_EQ(parse_duration("3 us", kPlace), 3us);
  EXPECT_EQ(parse_duration("0.6 us", kPlace), 600ns);
  EXPECT_EQ(parse_duration("10 ms", kPlace), 10ms);
  EXPECT_EQ(parse_duration("2 h", kPlace), 2h);
  EXPECT_EQ(parse_duration("1.5 days", kPlace), 36h);
  EXPECT_EQ(parse_duration("0 s", kPlace), 0s);
}

// k is 1024, as sequence lengths are named; M, B and T are decimal, as parameters and tokens are.
TEST(UnitsText, Counts) {
  EXPECT_EQ(parse_count("720", kPlace), 720);
  EXPECT_EQ(parse_count("4k", kPlace), 4096);
  EXPECT_EQ(parse_count("128K", kPlace), 131072);
  EXPECT_EQ(parse_count("1.5M", kPlace), 1'500'000);
  EXPECT_EQ(parse_count("352B", kPlace), 352'000'000'000);
  EXPECT_EQ(parse_count("15T", kPlace), 15'000'000'000'000);
  EXPECT_EQ(parse_count("14.8T", kPlace), 14'800'000'000'000);
  EXPECT_EQ(parse_count("9007199254740992", kPlace), std::int64_t{1} << 53);
}

TEST(UnitsText, Numbers) {
  EXPECT_EQ(parse_number("1.25", kPlace), 1.25);
  EXPECT_EQ(parse_number("-3e2", kPlace), -300);
}

TEST(UnitsText, ErrorsSayWhatToDo) {
  EXPECT_EQ(complaint([] { parse_bandwidth("450", kPlace); }),
            "a.json: key: \"450\" has no unit; append one, as in \"450 GB/s\"");
  EXPECT_EQ(complaint([] { parse_bytes("80", kPlace); }),
            "a.json: key: \"80\" has no unit; append one, as in \"80 GiB\"");
  EXPECT_EQ(complaint([] { parse_bytes("80 Gb", kPlace); }),
            "a.json: key: \"80 Gb\" is not a size: unknown unit \"Gb\"; allowed are B, kB, MB, GB, TB, PB, KiB, MiB, "
            "GiB, TiB");
  EXPECT_EQ(complaint([] { parse_bytes("-1 GB", kPlace); }),
            "a.json: key: \"-1 GB\" is out of range; 0 B to 1000 PB is allowed");
  EXPECT_EQ(complaint([] { parse_count("1.4k", kPlace); }), "a.json: key: \"1.4k\" is 1433.6, not a whole number");
  EXPECT_EQ(complaint([] { parse_count("x", kPlace); }), "a.json: key: \"x\" is not a count; begin with a number");
  EXPECT_EQ(complaint([] { parse_number("1 s", kPlace); }),
            "a.json: key: \"1 s\" is not a number; a number without a unit is expected");
}

TEST(UnitsText, RefusesWhatMakesNoSense) {
  for (const char* text : {"", " ", "GB", "nan GB", "inf GB", "1e999 GB", "1e300 GB", "-0.001 B", "1,440 GB", "0x10 GB",
                           "80 GB GB", "80 gb"})
    EXPECT_THROW(parse_bytes(text, kPlace), UserError) << text;
  for (const char* text : {"0 GB/s", "-1 GB/s", "450 GB", "1 B/s", "1e300 GB/s", "nan", "450 GB/h"})
    EXPECT_THROW(parse_bandwidth(text, kPlace), UserError) << text;
  for (const char* text : {"0 TFLOPS", "989", "989 T", "1e30 TFLOPS"})
    EXPECT_THROW(parse_flop_rate(text, kPlace), UserError) << text;
  for (const char* text : {"-1 us", "3", "1e9 s", "3 u"}) EXPECT_THROW(parse_duration(text, kPlace), UserError) << text;
  for (const char* text : {"-1", "1.5", "1e17", "9007199254740993000", "8x", "nan"})
    EXPECT_THROW(parse_count(text, kPlace), UserError) << text;
}

TEST(UnitsText, FormatsForPeople) {
  EXPECT_EQ(format_bytes(Bytes{61.6 * kGiB}), "61.6 GiB");
  EXPECT_EQ(format_bytes(Bytes{512}), "512 B");
  EXPECT_EQ(format_bytes(Bytes{0}), "0 B");
  EXPECT_EQ(format_bytes(Bytes{-3.1 * kGiB}), "-3.1 GiB");
  EXPECT_EQ(format_bytes(Bytes{1023.99 * kGiB}), "1.0 TiB");  // not "1024.0 GiB"
  EXPECT_EQ(format_duration(4190ms), "4.19 s");
  EXPECT_EQ(format_duration(318us), "318 us");
  EXPECT_EQ(format_duration(999'990ns), "1.00 ms");  // not "1000 us"
  EXPECT_EQ(format_duration(19'926ms), "19.9 s");
  EXPECT_EQ(format_duration(0s), "0 s");
  EXPECT_EQ(format_duration(-2ms), "-2.00 ms");
  EXPECT_EQ(format_duration(90s), "90.0 s");
  EXPECT_EQ(format_duration(10min), "10.0 min");
  EXPECT_EQ(format_duration(24h * 94), "94.0 days");
  EXPECT_EQ(format_count(8), "8");
  EXPECT_EQ(format_count(720), "720");
  EXPECT_EQ(format_count(977.57), "978");
  EXPECT_EQ(format_count(8192), "8,192");
  EXPECT_EQ(format_count(131072), "131,072");
  EXPECT_EQ(format_count(1'410'000), "1.41M");
  EXPECT_EQ(format_count(352e9), "352B");
  EXPECT_EQ(format_count(15e12), "15T");
  EXPECT_EQ(format_count(999'999'999), "1B");
  EXPECT_EQ(format_bandwidth(BytesPerSecond{450e9}), "450 GB/s");
  EXPECT_EQ(format_bandwidth(BytesPerSecond{3.35e12}), "3.35 TB/s");
}

}  // namespace
}  // namespace msmoe
