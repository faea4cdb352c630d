#include "simulator/validation/runs.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json_reader.h"
#include "simulator/validation/choice.h"

namespace msmoe::simulator::validation {
namespace {

constexpr std::array<std::pair<const char*, Quantity>, 4> kQuantities = {{
    {"step_seconds", Quantity::kStepSeconds},
    {"tokens_per_second_per_gpu", Quantity::kTokensPerSecondPerGpu},
    {"tflops_per_gpu", Quantity::kTflopsPerGpu},
    {"mfu", Quantity::kMfu},
}};

constexpr std::array<std::pair<const char*, AttentionFlops>, 2> kAttentionFlops = {{
    {"causal", AttentionFlops::kCausal},
    {"full", AttentionFlops::kFull},
}};

Published read_published(JsonObject object) {
  Published published;
  published.quantity = choice(object, "quantity", kQuantities);
  published.value = object.number("value", {.min = std::numeric_limits<double>::min(), .max = 1e9});
  // A time or a rate of tokens has no convention.
  const bool counts_flops = published.quantity == Quantity::kTflopsPerGpu || published.quantity == Quantity::kMfu;
  if (counts_flops) published.attention = choice(object, "attention_flops", kAttentionFlops);
  object.refuse_unknown_keys();
  return published;
}

PublishedRun read_run(JsonObject& object, PublishedRun run) {
  run.id = object.text("id");
  read_conditions(object, run);
  require_complete(object, run);
  run.published = read_published(object.object("published"));
  run.calibrates = object.boolean_or("calibrates", true);
  run.set_aside = object.text_or("set_aside", "");
  run.note = object.text_or("note", "");
  run.explanation = object.text_or("explanation", "");
  object.refuse_unknown_keys();
  return run;
}

}  // namespace

const char* quantity_name(Quantity quantity) { return kQuantities[static_cast<std::size_t>(quantity)].first; }

std::vector<PublishedRun> parse_runs(const std::string& name, std::string_view json_text) {
  const JsonDocument document(name, json_text);
  JsonObject root = document.root();
  root.integer("schema_version", {.min = 1, .max = 1});
  std::vector<PublishedRun> runs;
  std::set<std::string> ids;
  for (JsonObject& group : root.objects("groups")) {
    PublishedRun common;
    common.source = group.text("source");
    read_conditions(group, common);
    for (JsonObject& object : group.objects("runs")) {
      runs.push_back(read_run(object, common));
      if (!ids.insert(runs.back().id).second)
        object.fail("id", fmt::format("'{}' is another run's already", excerpt(runs.back().id)));
    }
    group.refuse_unknown_keys();
  }
  root.refuse_unknown_keys();
  return runs;
}

std::vector<PublishedRun> read_runs(const std::string& path) {
  const std::string text = read_text_file(path);
  return parse_runs(path, text);
}

}  // namespace msmoe::simulator::validation
