// How a prediction reads: as JSON for programs, as text for people. docs/output.md lists every name.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "reports/style.h"
#include "simulator/prediction.h"

namespace msmoe::simulator {

inline constexpr int kOutputSchemaVersion = 1;  // of what --json prints

// Keys of JSON objects and of CSV columns.
const char* time_part_key(TimePart part);
const char* memory_row_key(MemoryRow row);

// Sums of picoseconds leave crumbs: parts below a millionth of the step are not shown to people.
bool is_worth_a_line(Duration part, Duration step);

// "4.10 s (80 %: 3.71 s to 4.53 s)"
std::string describe_step(const Prediction& prediction);

// tokens: of the whole training; adds its days, GPU-hours, failures, cost and energy.
nlohmann::ordered_json to_json(const Prediction& prediction, const Model& model, const Cluster& cluster,
                               std::optional<double> tokens = {});
std::string to_text(const Prediction& prediction, const Model& model, const Cluster& cluster,
                    std::optional<double> tokens, const reports::Style& style);

// "fits, 17.5 GiB to spare" or "does not fit: 3.1 GiB over on stage 0".
std::string describe_fit(const MemoryReport& memory);
// A line each, for standard error or below the answer.
std::vector<std::string> prediction_notes(const Prediction& prediction, const Model& model, const Cluster& cluster);

}  // namespace msmoe::simulator
