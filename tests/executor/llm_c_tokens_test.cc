#include "executor/data/llm_c_tokens.h"

#include <gtest/gtest.h>

#include "executor/mapped_file.h"
#include "tests/executor/data_files.h"

namespace msmoe::executor {
namespace {

class LlmCTokens : public DataFiles {
 protected:
  std::unique_ptr<TokenSource> open(const std::string& bytes) {
    const auto file = std::make_shared<const MappedFile>(write("set.bin", bytes));
    EXPECT_TRUE(is_llm_c(*file));
    return open_llm_c(file, 128'256);
  }
  std::string refusal_of(const std::string& bytes) {
    return without_folder(refusal([&] { open(bytes); }));
  }
};

TEST_F(LlmCTokens, AreReadAsWritten) {
  const Tokens gpt2 = counting(70'000, 50'256), llama3 = counting(130'000, 128'255);
  EXPECT_EQ(read_all(*open(llm_c_file<std::uint16_t>(20240520, 1, gpt2))), gpt2);
  const auto source = open(llm_c_file<std::uint32_t>(20240801, 7, llama3));
  EXPECT_EQ(read_all(*source), llama3);
  EXPECT_EQ(document_begins(*source), (std::vector<std::int64_t>{0, 130'000}));
}

TEST_F(LlmCTokens, OutsideTheVocabularyAreRefusedWhereTheyAreRead) {
  const auto source = open(llm_c_file<std::uint32_t>(20240801, 7, {1, -1}));
  EXPECT_EQ(refusal([&] { read_all(*source); }),
            path("set.bin: token 1, byte 1028: is 4294967295, which the model has no token for; 0 to 128255 are "
                 "allowed"));
}

TEST_F(LlmCTokens, MalformedHeadersAreRefusedInWords) {
  const std::string good = llm_c_file<std::uint16_t>(20240520, 1, counting(10, 9));
  EXPECT_EQ(refusal_of(good.substr(0, 1000)),
            "set.bin: header: the file ends after 1000 bytes; a header of llm.c has 1024");
  EXPECT_EQ(refusal_of(llm_c_file<std::uint16_t>(20240520, 7, {1})),
            "set.bin: header: version 7 of llm.c's format; 1 is read");
  EXPECT_EQ(refusal_of(llm_c_file<std::uint32_t>(20240801, 1, {1})),
            "set.bin: header: version 1 of llm.c's format; 7 is read");
  EXPECT_EQ(refusal_of(std::string(good).replace(8, 4, bytes_of<std::int32_t>(-3))),
            "set.bin: header: announces -3 tokens; 0 or more are allowed");
  for (const std::size_t size : {1024, 1043, 1045})
    EXPECT_EQ(refusal_of((good + "x").substr(0, size)),
              "set.bin: header: announces 10 tokens of 2 bytes, but the file has " + std::to_string(size) +
                  " bytes; it has to have 1044");
}

TEST_F(LlmCTokens, OtherFilesAreTold) {
  for (const std::string& bytes : {std::string(), std::string("abc"), bytes_of<std::int32_t>(20240522)})
    EXPECT_FALSE(is_llm_c(MappedFile(write("other.bin", bytes))));
}

}  // namespace
}  // namespace msmoe::executor
