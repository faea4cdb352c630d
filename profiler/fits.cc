#include "profiler/fits.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "profiler/case_terms.h"
#include "profiler/grids.h"
#include "profiler/least_squares.h"
#include "profiler/pair_fits.h"

namespace msmoe::profiler {
namespace {

using Points = std::vector<const Point*>;

// The simulator's operators that stand for several of ours.
struct Together {
  const char* of;
  std::vector<std::string_view> operators;
};
const std::vector<Together>& taken_together() {
  static const std::vector<Together> sets = {
      {"elementwise",
       {"rms_norm", "rms_norm_backward", "swi_glu", "swi_glu_backward", "add", "rope", "cast", "quantize", "dequantize",
        "sum_chunks", "embedding", "cross_entropy", "cross_entropy_backward", "squared_norm"}},
      {"permute", {"gather_rows", "combine_rows", "combine_weight_gradient"}},
      {"optimizer", {"adam_w"}},
  };
  return sets;
}

double error_of(double predicted, double measured) { return std::abs(predicted / measured - 1); }

FitErrors distribution(std::vector<double> errors) {
  if (errors.empty()) return {};
  std::ranges::sort(errors);
  const auto at = [&](double part) {
    const double position = part * static_cast<double>(errors.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, errors.size() - 1);
    return errors[below] + (position - static_cast<double>(below)) * (errors[above] - errors[below]);
  };
  return {static_cast<int>(errors.size()), at(0.5), at(0.95)};
}

struct Measured {
  TermChoices choices;
  double seconds = 0;
};

double squared_errors(const Terms& coefficients, const std::vector<Measured>& points) {
  double sum = 0;
  for (const Measured& point : points)
    sum += std::pow(error_of(quickest(coefficients, point.choices).seconds, point.seconds), 2);
  return sum;
}

// The best coefficients if every point keeps the tile that these make the quickest.
Terms refitted(const Terms& coefficients, const std::vector<Measured>& points, std::size_t num_terms) {
  Eigen::MatrixXd terms(static_cast<Eigen::Index>(points.size()), static_cast<Eigen::Index>(num_terms));
  Eigen::VectorXd seconds(terms.rows());
  for (Eigen::Index row = 0; row < terms.rows(); ++row) {
    const Measured& point = points[static_cast<std::size_t>(row)];
    const auto tile = static_cast<std::size_t>(quickest(coefficients, point.choices).index);
    for (Eigen::Index column = 0; column < terms.cols(); ++column)
      terms(row, column) = point.choices.all()[tile].terms[static_cast<std::size_t>(column)];
    seconds(row) = point.seconds;
  }
  const Eigen::VectorXd solution = solve_nonnegative_relative(terms, seconds);
  Terms result{};
  for (Eigen::Index column = 0; column < terms.cols(); ++column)
    result[static_cast<std::size_t>(column)] = solution(column);
  return result;
}

// Fit and choice of tiles in turn. Two sets of tiles may lead to each other for ever: later steps go half the way, and
// the best coefficients on the way count.
Terms fitted(const std::vector<Measured>& points, CostForm form) {
  constexpr int kRounds = 40, kFullSteps = 3;
  constexpr double kFirstGuess = 0.5;
  const std::size_t num_terms = term_names(form).size();
  Terms coefficients{}, best{};
  std::fill_n(coefficients.begin(), num_terms, kFirstGuess);
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const Terms next = refitted(coefficients, points, num_terms);
    for (std::size_t i = 0; i < num_terms; ++i)
      coefficients[i] = round < kFullSteps ? next[i] : (coefficients[i] + next[i]) / 2;
    if (const double sum = squared_errors(coefficients, points); sum < least) {
      least = sum;
      best = coefficients;
    }
  }
  return best;
}

std::vector<double> errors_of(const Fit& fit, const Points& points, const Gpu& gpu) {
  std::vector<double> errors;
  for (const Point* point : points)
    if (point->of.is_held_out())
      errors.push_back(error_of(quickest(fit.coefficients, terms_of(point->of, gpu)).seconds, to_seconds(point->time)));
  return errors;
}

// By operator: those alone, on all SMs.
std::map<std::string, Points> by_operator(const std::vector<Point>& points) {
  std::map<std::string, Points> result;
  for (const Point& point : points)
    if (has_terms(point.of.what) && !point.of.shape.contains("sms")) result[fitted_as(point.of)].push_back(&point);
  return result;
}

// One of case_kinds().
const char* kind_of(CostForm form) {
  if (form == CostForm::kMemory) return "rows";
  return cost_form_name(form == CostForm::kGroupedGemmShort ? CostForm::kGroupedGemm : form);
}

bool can_be_fitted(const Points& points) {
  return std::ranges::any_of(points, [](const Point* point) { return !point->of.is_held_out(); });
}

// By collective and ranks, of NCCL's own number of blocks.
std::map<std::pair<std::string, int>, std::map<double, const Point*>> by_collective(const std::vector<Point>& points) {
  constexpr std::array<std::string_view, 4> kCollectives = {"all_gather", "reduce_scatter", "all_to_all", "all_reduce"};
  std::map<std::pair<std::string, int>, std::map<double, const Point*>> result;
  for (const Point& point : points) {
    if (std::ranges::find(kCollectives, point.of.what) == kCollectives.end() || point.of.shape.contains("ctas"))
      continue;
    const auto ranks = static_cast<int>(point.of.shape.at("ranks"));
    result[{point.of.what, ranks}][static_cast<double>(point.of.shape.at("bytes"))] = &point;
  }
  return result;
}

// Tables of all points, and the errors of tables without the points held out. All points lie on one node.
void add_collectives(ProfileFits& result, const std::vector<Point>& points) {
  std::vector<double> errors;
  for (const auto& [key, by_size] : by_collective(points)) {
    const auto& [collective, ranks] = key;
    CollectiveTable all{.collective = collective, .ranks = ranks, .ranks_per_node = ranks, .points = {}, .source = ""};
    CollectiveTable kept = all;
    for (const auto& [bytes, point] : by_size) {
      all.points.push_back({{bytes}, point->time});
      if (!point->of.is_held_out()) kept.points.push_back(all.points.back());
    }
    if (kept.points.size() < 2) continue;
    for (const auto& [bytes, point] : by_size)
      if (point->of.is_held_out())
        errors.push_back(error_of(interpolated_seconds(kept.points, {bytes}), to_seconds(point->time)));
    result.collectives.push_back(std::move(all));
  }
  if (!errors.empty()) result.errors["collectives"] = distribution(std::move(errors));
}

// Nothing where an operator of the layer was not measured.
std::optional<double> sum_of_operators(const Case& layer, const std::map<std::string, const Fit*>& fits,
                                       const Gpu& gpu) {
  double seconds = 0;
  for (const Case& of : operators_of_layer(layer)) {
    const auto fit = fits.find(fitted_as(of));
    if (fit == fits.end()) return std::nullopt;
    seconds += quickest(fit->second->coefficients, terms_of(of, gpu)).seconds;
  }
  return seconds;
}

void add_layers(ProfileFits& result, const std::vector<Point>& points, const Gpu& gpu) {
  std::map<std::string, const Fit*> fits;
  for (const Fit& fit : result.fits) fits[fit.of] = &fit;
  std::vector<double> errors;
  for (const Point& point : points) {
    if (point.of.what != "layer") continue;
    if (const auto seconds = sum_of_operators(point.of, fits, gpu))
      errors.push_back(error_of(*seconds, to_seconds(point.time)));
  }
  if (!errors.empty()) result.errors["layers"] = distribution(std::move(errors));
}

}  // namespace

Fit fit_points(const std::vector<const Point*>& points, const std::string& of, const Gpu& gpu) {
  Fit fit;
  fit.of = of;
  fit.form = form_of(points.front()->of);
  std::vector<Measured> kept;
  for (const Point* point : points) {
    assert(form_of(point->of) == fit.form);
    if (!point->of.is_held_out()) kept.push_back({terms_of(point->of, gpu), to_seconds(point->time)});
  }
  assert(!kept.empty());
  fit.coefficients = fitted(kept, fit.form);
  fit.points = static_cast<int>(kept.size());
  fit.held_out = distribution(errors_of(fit, points, gpu));
  return fit;
}

ProfileFits fit_profile(const std::vector<Point>& points, const Gpu& gpu, const std::string& name) {
  ProfileFits result;
  const std::map<std::string, Points> operators = by_operator(points);
  std::map<std::string, std::vector<double>> errors_of_kind;
  const auto add = [&](const std::string& of, const Points& measured) {
    if (!can_be_fitted(measured)) return;
    result.fits.push_back(fit_points(measured, of, gpu));
    result.fits.back().gpu = name;
  };
  for (const auto& [of, measured] : operators) {
    if (!can_be_fitted(measured)) continue;
    add(of, measured);
    const Fit& fit = result.fits.back();
    for (const double error : errors_of(fit, measured, gpu)) errors_of_kind[kind_of(fit.form)].push_back(error);
  }
  for (const Together& set : taken_together()) {
    Points together;
    for (const std::string_view of : set.operators)
      if (const auto at = operators.find(std::string(of)); at != operators.end())
        together.insert(together.end(), at->second.begin(), at->second.end());
    add(set.of, together);
  }
  for (auto& [kind, errors] : errors_of_kind) result.errors[kind] = distribution(std::move(errors));
  add_collectives(result, points);
  if (auto pairs = fit_pairs(points, gpu, name)) {
    result.contention = std::move(pairs->contention);
    result.errors["pairs"] = distribution(std::move(pairs->errors));
  }
  add_layers(result, points, gpu);
  return result;
}

}  // namespace msmoe::profiler
