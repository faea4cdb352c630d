# What every folder's CMakeLists.txt uses.
option(MSMOE_TESTS "Build the tests" ON)
option(MSMOE_WERROR "Warnings are errors" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(msmoe_flags INTERFACE)
target_compile_features(msmoe_flags INTERFACE cxx_std_20)
target_include_directories(msmoe_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
target_compile_options(msmoe_flags INTERFACE $<BUILD_INTERFACE:-Wall;-Wextra;-Wshadow;$<$<BOOL:${MSMOE_WERROR}>:-Werror>>)

# The library of one folder: all its .cc files but main.cc.
#   msmoe_library(planner DEPENDS msmoe_core msmoe_simulator)
function(msmoe_library folder)
  cmake_parse_arguments(arg "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "main\\.cc$")
  add_library(msmoe_${folder} STATIC ${sources})
  target_link_libraries(msmoe_${folder} PUBLIC msmoe_flags ${arg_DEPENDS})
endfunction()
