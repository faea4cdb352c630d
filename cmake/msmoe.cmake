# What every folder's CMakeLists.txt uses: the flags, and one function each for its library and its program.
include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
mark_as_advanced(CCACHE)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

if(MSMOE_SANITIZE)
  add_compile_options(-fsanitize=${MSMOE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MSMOE_SANITIZE})
endif()

# Warnings for our own files, never for those who link with us. They are errors only with g++ 12, which the project is
# developed with: other releases warn of other things, and that must not keep anybody from building. A designated
# initializer that leaves members to their defaults does so on purpose; and in sanitized code g++ 12 takes parts of the
# standard library for uninitialized that are not.
add_library(msmoe_flags INTERFACE)
target_compile_options(msmoe_flags INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers)
# g++ 12 sees overlapping copies in "text" + std::string where there are none (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\.")
  target_compile_options(msmoe_flags INTERFACE -Wno-restrict)
endif()
if(MSMOE_SANITIZE)
  target_compile_options(msmoe_flags INTERFACE -Wno-maybe-uninitialized)
endif()
if(MSMOE_WERROR AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\.")
  target_compile_options(msmoe_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()

# The library of one folder: all its .cc files but main.cc, and all its headers, which are included from the root of
# the repository ("core/plan.h") here and from include/msmoe where they are installed.
# EXCLUDE names a folder inside it that is not part of the library.
#   msmoe_library(planner DEPENDS msmoe_core msmoe_simulator)
function(msmoe_library folder)
  cmake_parse_arguments(arg "" "EXCLUDE" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  if(arg_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "/${folder}/${arg_EXCLUDE}/")
    list(FILTER headers EXCLUDE REGEX "/${folder}/${arg_EXCLUDE}/")
  endif()
  add_library(msmoe_${folder} STATIC ${sources})
  add_library(msmoe::${folder} ALIAS msmoe_${folder})
  target_sources(msmoe_${folder} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers})
  set_target_properties(msmoe_${folder} PROPERTIES EXPORT_NAME ${folder})
  target_compile_features(msmoe_${folder} PUBLIC cxx_std_20)
  target_link_libraries(msmoe_${folder} PUBLIC ${arg_DEPENDS} PRIVATE $<BUILD_INTERFACE:msmoe_flags>)
  install(TARGETS msmoe_${folder} EXPORT msmoe FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/msmoe)
endfunction()

# A program whose main.cc lies in this folder; built into bin/ of the build folder.
#   msmoe_program(msmoe-plan DEPENDS msmoe_planner)
function(msmoe_program name)
  cmake_parse_arguments(arg "" "" "DEPENDS" ${ARGN})
  add_executable(${name} main.cc)
  # Installed programs load the libraries they were linked with: of OpenBLAS the single-threaded one.
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin
    INSTALL_RPATH_USE_LINK_PATH ON)
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} CLI11::CLI11 msmoe_flags)
  install(TARGETS ${name} RUNTIME)
endfunction()
