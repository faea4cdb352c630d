// Answer: what msmoe-plan says. The search's plans with full predictions, how published plans would do on the same
// question, and why other choices lost.
#pragma once

#include <string>
#include <vector>

#include "planner/search.h"
#include "simulator/prediction.h"

namespace msmoe::planner {

// A shipped plan of the same model, moved to the question's cluster, GPUs and batch by data parallelism.
struct Reference {
  std::string name;
  simulator::Prediction prediction;
};

// The best plan that makes another choice in one field, and the part of the step that it pays most for.
struct Loss {
  Alternative alternative;
  simulator::TimePart part = simulator::TimePart::kGemm;
  Duration more;  // of that part, beside the winner
};

struct Answer {
  SearchResult search;
  std::vector<simulator::Prediction> best;  // as search.best
  std::vector<Scored> fewer_gpus;           // the fastest on a half and on a quarter of the GPUs, where one fits
  std::vector<Reference> references;
  std::vector<Loss> losses;  // the nearest first
};

Answer answer(const Question& question, const SearchHooks& hooks = {});

}  // namespace msmoe::planner
