// Profile: what msmoe-profile measured on a machine, clusters/NAME.profile.json. The simulator reads its fits and its
// tables of collectives; the raw points lie in the file beside them, for whoever wants to fit again.
//
// Fits are of coefficients of ideal times (core/cost_terms.h), so that they carry over to another GPU of the same
// architecture: its peaks give other ideal times.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/collective_table.h"
#include "core/contention.h"
#include "core/cost_terms.h"

namespace msmoe {

// How the errors of a fit are distributed, over points that it was not fitted to: |predicted / measured - 1|.
struct FitErrors {
  int points = 0;
  double median = 0, p95 = 0;
};

struct Fit {
  std::string of;   // "gemm_forward", "elementwise", ... : fitted_operators() and single ones
  std::string gpu;  // that it was measured on, as the driver calls it
  CostForm form = CostForm::kMemory;
  Terms coefficients{};
  int points = 0;  // that it was fitted to
  FitErrors held_out;
};

struct Profile {
  std::string name;  // of the file, without ".profile.json"
  std::string gpu;   // as the driver calls it
  std::string date;  // of the measurement
  std::vector<Fit> fits;
  std::vector<CollectiveTable> collectives;  // between GPUs of one node
  std::optional<Contention> contention;      // of pairs

  const Fit* find(std::string_view of) const;  // nullptr: not measured
};

// The fits that the simulator needs; single operators, such as "rms_norm", come on top.
enum class FittedOperator : std::uint8_t {
  kGemmForward,
  kGemmInputGradient,
  kGemmWeightGradient,
  kGroupedGemmForward,
  kGroupedGemmInputGradient,
  kGroupedGemmWeightGradient,
  kGroupedGemmWeightGradientShort,
  kAttentionForward,
  kAttentionBackward,
  kElementwise,  // norms, activations, casts, losses taken together
  kPermute,      // rows gathered or combined by an index
  kOptimizer,
};
inline constexpr int kNumFittedOperators = 12;
const char* fitted_operator_name(FittedOperator of);  // "gemm_forward", ...
CostForm fitted_operator_form(FittedOperator of);

// Of the GPU that others are derived from where they were not measured.
inline constexpr const char* kBaseProfile = "h100";

using OperatorFits = std::array<const Fit*, kNumFittedOperators>;  // none is nullptr
// Those of the profile, and of the base profile what it lacks. The profile has to outlive them.
OperatorFits operator_fits(const Profile& profile);

// Pairs take two GPUs: those of the profile, else of this one.
inline constexpr const char* kPairsProfile = "h200";
const Contention& contention_of(const Profile& profile);

// Whether what the driver calls so is the GPU stated: "NVIDIA H100 80GB HBM3" is an "H100 SXM5 80GB" and no "H800 SXM5
// 80GB".
bool was_measured_on(const std::string& driver_name, const Gpu& gpu);

// Throws UserError naming file, key and what is allowed.
Profile parse_profile(const std::string& name, std::string_view json_text);
// A file, or the name of a profile that ships (clusters/NAME.profile.json). Read once in a process.
const Profile& find_profile(const std::string& name_or_path);

}  // namespace msmoe
