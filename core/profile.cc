#include "core/profile.h"

#include <array>
#include <map>
#include <mutex>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe {
namespace {

struct NamedOperator {
  const char* name;
  CostForm form;
};
constexpr std::array<NamedOperator, kNumFittedOperators> kFittedOperators = {{
    {"gemm_forward", CostForm::kGemm},
    {"gemm_input_gradient", CostForm::kGemm},
    {"gemm_weight_gradient", CostForm::kGemm},
    {"grouped_gemm_forward", CostForm::kGroupedGemm},
    {"grouped_gemm_input_gradient", CostForm::kGroupedGemm},
    {"grouped_gemm_weight_gradient", CostForm::kGroupedGemm},
    {"grouped_gemm_weight_gradient_short", CostForm::kGroupedGemmShort},
    {"attention_forward", CostForm::kAttention},
    {"attention_backward", CostForm::kAttention},
    {"elementwise", CostForm::kMemory},
    {"permute", CostForm::kMemory},
    {"optimizer", CostForm::kMemory},
}};

const NamedOperator& row(FittedOperator of) { return kFittedOperators[static_cast<std::size_t>(of)]; }

constexpr double kLongestSeconds = 1e6;

CostForm read_form(JsonObject& object) {
  const std::string name = object.text("form");
  std::vector<std::string> known;
  for (int index = 0; index < kNumCostForms; ++index) {
    const auto form = static_cast<CostForm>(index);
    if (name == cost_form_name(form)) return form;
    known.emplace_back(cost_form_name(form));
  }
  object.fail("form", "\"" + excerpt(name) + "\" is unknown", "known are " + join(known));
}

FitErrors read_errors(JsonObject object) {
  FitErrors errors;
  errors.points = static_cast<int>(object.integer("points", {.min = 0, .max = 1'000'000}));
  errors.median = object.number("median", {.min = 0});
  errors.p95 = object.number("p95", {.min = 0});
  object.refuse_unknown_keys();
  return errors;
}

Fit read_fit(JsonObject object, const std::string& gpu) {
  Fit fit;
  fit.of = object.text("of");
  fit.gpu = gpu;
  fit.form = read_form(object);
  JsonObject terms = object.object("terms");
  const auto names = term_names(fit.form);
  double sum = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    constexpr double kMost = 1e6;
    fit.coefficients[i] = terms.number(names[i], {.min = 0, .max = kMost});
    sum += fit.coefficients[i];
  }
  terms.refuse_unknown_keys();
  if (sum <= 0) object.fail("terms", "all are 0", "one at least has to be above");
  fit.points = static_cast<int>(object.integer("points", {.min = 0, .max = 1'000'000}));
  fit.held_out = read_errors(object.object("held_out"));
  object.refuse_unknown_keys();
  for (const NamedOperator& known : kFittedOperators)
    if (fit.of == known.name && fit.form != known.form)
      object.fail("form", "does not suit " + fit.of, "another one is expected");
  return fit;
}

// Between the GPUs of one node.
CollectiveTable read_table(JsonObject object, const Profile& profile) {
  CollectiveTable table;
  table.collective = object.text("collective");
  table.ranks = static_cast<int>(object.integer("ranks", {.min = 2, .max = 1 << 20}));
  table.ranks_per_node = table.ranks;
  table.source = profile.name + ".profile.json, " + profile.date;
  for (const std::vector<double>& row : object.rows_of_numbers("points")) {
    const bool is_point = row.size() == 2 && row[0] > 0 && row[1] > 0 && row[1] < kLongestSeconds;
    if (!is_point || (!table.points.empty() && row[0] <= table.points.back().size.count))
      object.fail("points", "a pair of bytes and seconds is wrong", "both are above 0, the bytes in ascending order");
    table.points.push_back({{row[0]}, seconds(row[1])});
  }
  if (table.points.size() < 2) object.fail("points", "are too few", "two at least");
  object.refuse_unknown_keys();
  return table;
}

Contention read_contention(JsonObject object, const std::string& gpu) {
  constexpr NumberRange kRange = {.min = 0, .max = 100};
  Contention contention;
  contention.gpu = gpu;
  const auto read_kinds = [&](const char* key, auto& values, const auto& name_of) {
    JsonObject kinds = object.object(key);
    for (std::size_t kind = 0; kind < values.size(); ++kind) values[kind] = kinds.number(name_of(kind), kRange);
    kinds.refuse_unknown_keys();
  };
  const auto crowd_name = [](std::size_t kind) { return crowd_kind_name(static_cast<CrowdKind>(kind)); };
  read_kinds("crowds", contention.crowds, crowd_name);
  read_kinds("yields", contention.yields, crowd_name);
  read_kinds("waits", contention.waits, [](std::size_t kind) { return kWaitKindNames[kind]; });
  object.refuse_unknown_keys();
  return contention;
}

Profile read(const JsonDocument& document) {
  JsonObject root = document.root();
  Profile profile;
  root.integer("version", {.min = 1, .max = 1});
  profile.name = root.text("name");
  profile.date = root.text("date");
  profile.gpu = root.object("conditions").text("gpu");
  for (JsonObject& fit : root.objects("fits")) {
    profile.fits.push_back(read_fit(std::move(fit), profile.gpu));
    for (std::size_t i = 0; i + 1 < profile.fits.size(); ++i)
      if (profile.fits[i].of == profile.fits.back().of)
        root.fail("fits", "\"" + excerpt(profile.fits.back().of) + "\" is there twice", "once is allowed");
  }
  if (root.has("collectives"))
    for (JsonObject& table : root.objects("collectives"))
      profile.collectives.push_back(read_table(std::move(table), profile));
  if (auto contention = root.optional_object("contention"))
    profile.contention = read_contention(std::move(*contention), profile.gpu);
  for (const char* key : {"msmoe", "health_before", "health_after", "errors", "collectives", "points"})
    root.mark_read(key);
  root.refuse_unknown_keys();
  return profile;
}

}  // namespace

const char* fitted_operator_name(FittedOperator of) { return row(of).name; }
CostForm fitted_operator_form(FittedOperator of) { return row(of).form; }

const Fit* Profile::find(std::string_view of) const {
  for (const Fit& fit : fits)
    if (fit.of == of) return &fit;
  return nullptr;
}

OperatorFits operator_fits(const Profile& profile) {
  OperatorFits fits{};
  for (int index = 0; index < kNumFittedOperators; ++index) {
    const char* name = fitted_operator_name(static_cast<FittedOperator>(index));
    const Fit*& fit = fits[static_cast<std::size_t>(index)];
    fit = profile.find(name);
    if (fit == nullptr) fit = find_profile(kBaseProfile).find(name);
    if (fit == nullptr)
      throw UserError(std::string(kBaseProfile) + ".profile.json", "fits", std::string(name) + " is missing",
                      "the profile that ships has all");
  }
  return fits;
}

const Contention& contention_of(const Profile& profile) {
  if (profile.contention) return *profile.contention;
  const Profile& shipped = find_profile(kPairsProfile);
  if (!shipped.contention)
    throw UserError(std::string(kPairsProfile) + ".profile.json", "contention", "is missing",
                    "the profile that ships has it");
  return *shipped.contention;
}

bool was_measured_on(const std::string& driver_name, const Gpu& gpu) {
  const std::string model = gpu.name.substr(0, gpu.name.find(' '));
  return !model.empty() && (" " + driver_name + " ").find(" " + model + " ") != std::string::npos;
}

Profile parse_profile(const std::string& name, std::string_view json_text) {
  return read(JsonDocument(name, json_text));
}

const Profile& find_profile(const std::string& name_or_path) {
  static std::mutex mutex;
  static std::map<std::string, Profile> read_before;
  const bool is_path = name_or_path.ends_with(".json");
  const std::string path = is_path ? name_or_path : find_data_file("clusters", name_or_path + ".profile");
  const std::lock_guard lock(mutex);
  const auto found = read_before.find(path);
  if (found != read_before.end()) return found->second;
  return read_before.emplace(path, read(read_json_file(path))).first->second;
}

}  // namespace msmoe
