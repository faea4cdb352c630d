#include "executor/checkpoint/crc32c.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace msmoe::executor {
namespace {

std::uint32_t of(const std::string& text) { return crc32c(std::as_bytes(std::span(text))); }

// RFC 3720, appendix B.4, and the check value that catalogues of checksums give for "123456789".
TEST(Crc32c, MatchesPublishedValues) {
  EXPECT_EQ(of("123456789"), 0xe3069283u);
  EXPECT_EQ(of(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(of(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (char value = 0; value < 32; ++value) ascending.push_back(value);
  EXPECT_EQ(of(ascending), 0x46dd794eu);
  EXPECT_EQ(of(""), 0u);
}

TEST(Crc32c, SoftwareAndHardwareAgreeAtAllLengthsAndCuts) {
  std::vector<std::byte> bytes(100);
  for (std::size_t idx = 0; idx < bytes.size(); ++idx) bytes[idx] = static_cast<std::byte>(idx * 37 + 11);
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    const auto part = std::span(bytes).first(length);
    const std::uint32_t whole = crc32c(part);
    EXPECT_EQ(crc32c_in_software(part), whole) << length;
    const std::size_t cut = length / 3;
    EXPECT_EQ(crc32c(part.subspan(cut), crc32c(part.first(cut))), whole) << length;
    EXPECT_EQ(crc32c_in_software(part.subspan(cut), crc32c_in_software(part.first(cut))), whole) << length;
  }
}

}  // namespace
}  // namespace msmoe::executor
