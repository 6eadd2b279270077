# find_package(repfold_engine): the target repfold::repfold_engine. The files lie as CMake installs them (lib/cmake/...),
# or together in the Python package.
find_path(repfold_engine_INCLUDE repfold_engine.h REQUIRED NO_DEFAULT_PATH
  HINTS "${CMAKE_CURRENT_LIST_DIR}/../include" "${CMAKE_CURRENT_LIST_DIR}/../../../include")
find_library(repfold_engine_LIBRARY repfold_engine REQUIRED NO_DEFAULT_PATH
  HINTS "${CMAKE_CURRENT_LIST_DIR}/.." "${CMAKE_CURRENT_LIST_DIR}/../..")
if(NOT TARGET repfold::repfold_engine)
  add_library(repfold::repfold_engine SHARED IMPORTED)
  set_target_properties(repfold::repfold_engine PROPERTIES
    IMPORTED_LOCATION "${repfold_engine_LIBRARY}" IMPORTED_NO_SONAME TRUE INTERFACE_INCLUDE_DIRECTORIES "${repfold_engine_INCLUDE}")
endif()
