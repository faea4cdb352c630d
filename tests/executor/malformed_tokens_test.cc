// Whatever the bytes of a data set, and whatever becomes of its files while it is open: its tokens are read, or one
// line says why not.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "executor/data/open_tokens.h"
#include "tests/core/mutations.h"
#include "tests/executor/data_files.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kVocabulary = 1000;

class MalformedTokens : public DataFiles {
 protected:
  // Opens the data set and reads all of it.
  void read(const std::string& name) const {
    const auto source = open_tokens({path(name)}, kVocabulary);
    const std::vector<std::int64_t> begins = document_begins(*source);
    EXPECT_EQ(begins.front(), 0);
    EXPECT_EQ(begins.back(), source->num_tokens());
    EXPECT_TRUE(std::ranges::is_sorted(begins));
    for (const std::int32_t token : read_all(*source)) EXPECT_TRUE(token >= 0 && token < kVocabulary) << token;
  }

  // A file with every 4 and 8 bytes of it replaced by numbers that a reader may stumble over.
  static std::vector<std::string> with_hard_numbers(const std::string& bytes, std::size_t longest) {
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    std::vector<std::string> mutants;
    for (std::size_t at = 0; at < std::min(bytes.size(), longest); ++at)
      for (const std::int64_t number :
           {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, kMost, -kMost - 1, kMost / 2, kMost / 8, kMost / 12 + 1,
            std::int64_t{1} << 32, std::int64_t{1} << 31, static_cast<std::int64_t>(bytes.size())}) {
        for (const std::string& field : {bytes_of<std::int64_t>(number), bytes_of<std::int32_t>(number)})
          if (at + field.size() <= bytes.size()) mutants.push_back(std::string(bytes).replace(at, field.size(), field));
      }
    return mutants;
  }

  // Mutates one file of the data set, the others being as they are.
  Survival survive(const std::string& mutated, const std::string& bytes, const std::string& opened,
                   std::size_t longest) const {
    const auto parse = [&](const std::string& mutant) {
      write(mutated, mutant);
      read(opened);
    };
    Survival survival = expect_survives(bytes, parse);
    for (const std::string& mutant : with_hard_numbers(bytes, longest)) expect_survives_once(mutant, parse, survival);
    return survival;
  }
};

TEST_F(MalformedTokens, MutatedMegatronIndices) {
  for (const auto& [type, bytes] : {std::pair{8, 2}, {5, 8}}) {
    const std::string index = megatron_index(type, bytes, {{5}, {0, 7}, {}, {1, 2, 3}});
    write("set.bin", std::string(static_cast<std::size_t>(18 * bytes), '\0'));
    const Survival survival = survive("set.idx", index, "set", index.size());
    EXPECT_GE(survival.accepted, 1);
    EXPECT_GE(survival.refused, 1000);
  }
}

TEST_F(MalformedTokens, MutatedMegatronTokens) {
  write("set.idx", megatron_index(4, 4, {{5}, {0, 7}, {}, {1, 2, 3}}));
  const Survival survival = survive("set.bin", bytes_of<std::int32_t>(counting(18, 999)), "set", 72);
  EXPECT_GE(survival.accepted, 1);
  EXPECT_GE(survival.refused, 100);
}

TEST_F(MalformedTokens, MutatedFilesOfLlmC) {
  for (const std::string& bytes : {llm_c_file<std::uint16_t>(20240520, 1, counting(50, 999)),
                                   llm_c_file<std::uint32_t>(20240801, 7, counting(50, 999))}) {
    const Survival survival = survive("set.bin", bytes, "set.bin", 16);
    EXPECT_GE(survival.accepted, 1);
    EXPECT_GE(survival.refused, 500);
  }
}

TEST_F(MalformedTokens, MutatedText) {
  const Survival survival = survive("a.txt", "The quick brown fox jumps over the lazy dog.\n", "a.txt", 20);
  EXPECT_GE(survival.accepted, 500);
}

// A file that is cut short while it is open: what is gone is refused, what is left is read.
TEST_F(MalformedTokens, FilesThatShrink) {
  const std::string index = megatron_index(4, 4, {{5000}, {5000}});
  write("set.bin", bytes_of<std::int32_t>(counting(10'000, 999)));
  write("set.idx", index);
  const auto source = open_tokens({path("set")}, kVocabulary);

  std::filesystem::resize_file(path("set.bin"), 20'000);
  Tokens half(5000), one(1);
  source->copy(0, half);
  EXPECT_EQ(half, counting(5000, 999));
  EXPECT_EQ(refusal([&] { source->copy(5000, one); }),
            path("set.bin: byte 20000: the file ends here, but had 40000 bytes when it was opened; it must not "
                 "be changed while it is in use"));
  std::filesystem::resize_file(path("set.bin"), 0);
  EXPECT_NE(refusal([&] { source->copy(0, one); }), "");
  source->copy(0, std::span<std::int32_t>());

  for (std::size_t size = 0; size < index.size(); ++size) {
    std::filesystem::resize_file(path("set.idx"), size);
    EXPECT_NE(refusal([&] { document_begins(*source); }), "") << size;
  }
}

// An index that is written over while it is open: where a document begins stays inside the tokens.
TEST_F(MalformedTokens, IndicesThatChange) {
  const std::string index = megatron_index(4, 4, {{50}, {50}});
  write("set.bin", bytes_of<std::int32_t>(counting(100, 999)));
  write("set.idx", index);
  const auto source = open_tokens({path("set")}, kVocabulary);
  for (const std::string& mutant : with_hard_numbers(index, index.size())) {
    std::fstream(path("set.idx"), std::ios::binary | std::ios::in | std::ios::out) << mutant;
    refusal([&] {
      for (const std::int64_t begin : document_begins(*source)) EXPECT_TRUE(begin >= 0 && begin <= 100) << begin;
    });
  }
}

}  // namespace
}  // namespace msmoe::executor
