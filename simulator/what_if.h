// What-if: a plan with its model and its cluster, and the changes that --what-if and --sweep make to them by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"
#include "simulator/prediction.h"
#include "simulator/routing.h"
#include "simulator/stragglers.h"

namespace msmoe::simulator {

struct Scenario {
  std::string file;  // as the user named the plan
  Plan plan;
  Model model;
  Cluster cluster;
  Routing imbalance;
  std::vector<Straggler> stragglers;
  double jitter = 0;  // coefficient of variation of compute operators
};
// plan: a file, or the name of one that ships. The model and the cluster are those that it names.
Scenario load_scenario(const std::string& plan);

struct Change {
  std::string key, value;
};
// "gpus=480,nic=200G". flag: for errors.
std::vector<Change> parse_changes(std::string_view text, const char* flag);

// Each in turn, but model and cluster before all others, since they bring values of their own, and dp and nodes after
// them, since they are counted in others. Throws UserError(place = key).
void apply_changes(Scenario& scenario, std::vector<Change> changes);

// Throws UserError with the nearest name where none of the three nouns has such a field.
void require_known_field(const std::string& key);
std::vector<std::string> change_names();  // those of a plan first
std::string changes_help();               // a line each, for --help

// Rows of the most loaded expert rank over balanced rows, as simulated: within the largest there is; of a routing that
// is drawn or read, the mean over layers.
double imbalance_of(const Scenario& scenario, std::uint64_t seed);

// Every rank is simulated where the options ask for it, or where there is a straggler or jitter. Throws UserError where
// the plan breaks a rule, or where its step is longer than can be simulated.
Prediction simulate(const Scenario& scenario, PredictionOptions options = {});

}  // namespace msmoe::simulator
