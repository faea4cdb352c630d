#include "profiler/machine.h"

namespace msmoe::profiler {

const std::vector<std::string>& case_kinds() {
  static const std::vector<std::string> kinds = {"links"};
  return kinds;
}

}  // namespace msmoe::profiler
