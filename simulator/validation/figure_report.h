// The part of the report on figures and bars.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "simulator/validation/bars.h"

namespace msmoe::simulator::validation {

nlohmann::ordered_json figures_json(const std::vector<Figure>& figures,
                                    const std::vector<std::vector<FigureValue>>& values);
nlohmann::ordered_json bars_json(const std::vector<BarResult>& bars);
std::string figures_markdown(const std::vector<Figure>& figures, const std::vector<std::vector<FigureValue>>& values);
std::string bars_markdown(const std::vector<BarResult>& bars);

}  // namespace msmoe::simulator::validation
