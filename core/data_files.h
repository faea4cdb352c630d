// Data that ships with the program: models/, clusters/ and plans/, each file NAME.json, found by its bare name.
//
// Searched in this order: $MSMOE_DATA_DIR/FOLDER, ../share/msmoe/FOLDER beside the running program, and FOLDER of
// the source tree it was built from.
#pragma once

#include <string>
#include <vector>

namespace msmoe {

// A path to a file that exists is returned as it is; else the file that ships under this name. A UserError where
// there is neither, naming the nearest name that ships.
std::string find_data_file(const std::string& folder, const std::string& name_or_path);

// Sorted, without ".json".
std::vector<std::string> shipped_names(const std::string& folder);

}  // namespace msmoe
