// Pipeline layouts as people write them.
//
//   "4,4,3" or "4/4/3"    decoder layers of each virtual stage
//   "Et|(tt|)*30L"        Megatron-LM's --pipeline-model-parallel-layout: '|' ends a virtual stage, E is the embedding,
//                         t one decoder layer, m one extra prediction layer, L the loss; "(...)*n" and "x*n" repeat.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace msmoe {

// Decoder layers of each virtual stage, in the order 0, 1, ... of Plan::layout. Throws UserError(place) where the text
// is neither form; where E is not first and once, or L not last and once; where an m stands outside the last virtual
// stage (msmoe runs prediction layers beside the head); and beyond 65536 layers or virtual stages.
std::vector<std::int64_t> parse_pipeline_layout(std::string_view text, const std::string& place);

// "4/4/3"
std::string format_pipeline_layout(const std::vector<std::int64_t>& layout);

}  // namespace msmoe
