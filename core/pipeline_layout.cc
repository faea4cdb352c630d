#include "core/pipeline_layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "core/error.h"

namespace msmoe {
namespace {

constexpr std::size_t kLongest = 65536;  // letters of an expanded layout, entries of a list

class LayoutParser {
 public:
  LayoutParser(std::string_view text, const std::string& place) : text_(text), place_(place) {}

  std::vector<std::int64_t> numbers() {
    std::vector<std::int64_t> layers;
    for (;;) {
      layers.push_back(number());
      if (layers.size() > kLongest) fail(fmt::format("has more than {} virtual stages", kLongest));
      if (at_end()) return layers;
      if (text_[at_] != ',' && text_[at_] != '/') fail_here();
      ++at_;
    }
  }

  std::vector<std::int64_t> letters() {
    const std::string expanded = expand(/*in_group=*/false);
    check_order(expanded);
    std::vector<std::int64_t> layers(1, 0);
    for (const char letter : expanded) {
      if (letter == '|') layers.push_back(0);
      if (letter == 't') ++layers.back();
    }
    return layers;
  }

 private:
  bool at_end() const { return at_ == text_.size(); }

  [[noreturn]] void fail(const std::string& message) const {
    throw UserError("", place_, fmt::format("layout '{}' {}", text_.substr(0, 80), message),
                    "write decoder layers of each virtual stage (11/12/12/11) or Megatron's form (Et|(tt|)*30L)");
  }
  [[noreturn]] void fail_here() const {
    if (at_end()) fail("ends too early");
    fail(fmt::format("has '{}' where it cannot stand (character {})", text_[at_], at_ + 1));
  }

  std::int64_t number() {
    std::int64_t value = 0;
    const char* const begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range || value > static_cast<std::int64_t>(kLongest))
      fail(fmt::format("has a number above {}", kLongest));
    if (error != std::errc{} || value < 0) fail_here();
    at_ += static_cast<std::size_t>(end - begin);
    return value;
  }

  // Repetition written out. Groups do not nest, as in Megatron.
  std::string expand(bool in_group) {
    std::string expanded;
    while (!at_end() && text_[at_] != ')') {
      std::string unit;
      if (text_[at_] == '(') {
        if (in_group) fail("has a group inside a group");
        ++at_;
        unit = expand(/*in_group=*/true);
        if (at_end()) fail("has a '(' that nothing closes");
        ++at_;
      } else if (std::string_view("EtmL|").find(text_[at_]) != std::string_view::npos) {
        unit = text_[at_++];
      } else {
        fail_here();
      }
      const std::int64_t times = repetitions();
      if (expanded.size() + unit.size() * static_cast<std::size_t>(times) > kLongest)
        fail(fmt::format("is longer than {} letters", kLongest));
      for (std::int64_t time = 0; time < times; ++time) expanded += unit;
    }
    if (!in_group && !at_end()) fail_here();
    return expanded;
  }

  std::int64_t repetitions() {
    if (at_end() || text_[at_] != '*') return 1;
    ++at_;
    return number();
  }

  void check_order(const std::string& expanded) const {
    const auto count = [&](char letter) { return std::count(expanded.begin(), expanded.end(), letter); };
    if (count('E') != 1 || expanded.front() != 'E') fail("needs exactly one E, at the start");
    if (count('L') != 1 || expanded.back() != 'L') fail("needs exactly one L, at the end");
    const std::size_t first_predict = expanded.find('m');
    if (first_predict == std::string::npos) return;
    if (expanded.find_first_of("|t", first_predict) != std::string::npos)
      fail("needs each m in the last virtual stage, after the decoder layers");
  }

  std::string_view text_;
  const std::string& place_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<std::int64_t> parse_pipeline_layout(std::string_view text, const std::string& place) {
  LayoutParser parser(text, place);
  const bool is_list = !text.empty() && text.front() >= '0' && text.front() <= '9';
  return is_list ? parser.numbers() : parser.letters();
}

std::string format_pipeline_layout(const std::vector<std::int64_t>& layout) {
  return fmt::format("{}", fmt::join(layout, "/"));
}

}  // namespace msmoe
