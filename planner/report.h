// How msmoe-plan's answer reads: text for people, JSON for programs (docs/output.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "planner/answer.h"
#include "reports/style.h"

namespace msmoe::planner {

// tokens: of the whole training, for days, GPU-hours and cost. REQUIRES at least one best plan.
std::string to_text(const Question& question, const Answer& answer, std::optional<double> tokens,
                    const reports::Style& style);
// The fields of the best plan's prediction, and "plans", "pareto", "references", "alternatives", "near_misses",
// "search".
nlohmann::ordered_json to_json(const Question& question, const Answer& answer, std::optional<double> tokens);

// Where nothing fits: what was considered, and the nearest that would fit with one change.
std::string no_plan_text(const Question& question, const SearchResult& search);

}  // namespace msmoe::planner
