"""Argument checks; the only place where messages are worded.

A function whose name is a noun phrase builds the error for its caller to raise; one whose name
is ``check_...`` raises it itself. Every message reads
``{function}: `{argument}` must be {constraint}; got {value} [at leaf '{path}']. {What to do.}``
Values are looked at only where they are concrete; under a trace only shapes and dtypes are.
"""

from jprune._checks.arrays import check_bool as check_bool
from jprune._checks.arrays import check_floating as check_floating
from jprune._checks.arrays import check_fraction as check_fraction
from jprune._checks.arrays import check_key as check_key
from jprune._checks.arrays import check_no_nan as check_no_nan
from jprune._checks.arrays import check_numeric as check_numeric
from jprune._checks.arrays import check_positive_int as check_positive_int
from jprune._checks.arrays import check_shape as check_shape
from jprune._checks.files import as_path as as_path
from jprune._checks.files import broken_file as broken_file
from jprune._checks.files import check_distinct as check_distinct
from jprune._checks.files import check_folder as check_folder
from jprune._checks.files import check_x64 as check_x64
from jprune._checks.files import damaged_file as damaged_file
from jprune._checks.files import foreign_file as foreign_file
from jprune._checks.files import like_other_leaf as like_other_leaf
from jprune._checks.files import like_other_paths as like_other_paths
from jprune._checks.files import missing_library as missing_library
from jprune._checks.files import newer_file as newer_file
from jprune._checks.files import no_file as no_file
from jprune._checks.files import no_values as no_values
from jprune._checks.files import not_addressable as not_addressable
from jprune._checks.files import not_storable as not_storable
from jprune._checks.files import not_storable_tree as not_storable_tree
from jprune._checks.files import tensor_name_taken as tensor_name_taken
from jprune._checks.files import traced as traced
from jprune._checks.modules import no_variables as no_variables
from jprune._checks.modules import not_nnx_module as not_nnx_module
from jprune._checks.modules import other_variables as other_variables
from jprune._checks.modules import unknown_variables as unknown_variables
from jprune._checks.selection import arguments_not_wanted as arguments_not_wanted
from jprune._checks.selection import bad_block as bad_block
from jprune._checks.selection import bad_distribution as bad_distribution
from jprune._checks.selection import bad_pattern as bad_pattern
from jprune._checks.selection import bad_scorer as bad_scorer
from jprune._checks.selection import check_axis as check_axis
from jprune._checks.selection import check_int as check_int
from jprune._checks.selection import check_n_of_m as check_n_of_m
from jprune._checks.selection import check_threshold as check_threshold
from jprune._checks.selection import check_values as check_values
from jprune._checks.selection import key_not_wanted as key_not_wanted
from jprune._checks.selection import no_mapping as no_mapping
from jprune._checks.selection import no_scores_at_hand as no_scores_at_hand
from jprune._checks.selection import no_sparsity as no_sparsity
from jprune._checks.selection import non_negative_number as non_negative_number
from jprune._checks.selection import none_given as none_given
from jprune._checks.selection import not_divisible as not_divisible
from jprune._checks.selection import not_scored as not_scored
from jprune._checks.selection import not_static as not_static
from jprune._checks.selection import nothing_scored as nothing_scored
from jprune._checks.selection import pattern_has_sparsity as pattern_has_sparsity
from jprune._checks.selection import pattern_not_global as pattern_not_global
from jprune._checks.selection import pattern_shares_alike as pattern_shares_alike
from jprune._checks.selection import positive_number as positive_number
from jprune._checks.selection import sparsity_given as sparsity_given
from jprune._checks.selection import static_fraction as static_fraction
from jprune._checks.selection import too_few_dimensions as too_few_dimensions
from jprune._checks.selection import too_large_to_sort as too_large_to_sort
from jprune._checks.selection import unknown_paths as unknown_paths
from jprune._checks.training import check_below_one as check_below_one
from jprune._checks.training import check_later as check_later
from jprune._checks.training import check_step as check_step
from jprune._checks.training import missing_params as missing_params
from jprune._checks.training import not_finite_where_pruned as not_finite_where_pruned
from jprune._checks.training import other_than_init as other_than_init
from jprune._checks.trees import as_bool as as_bool
from jprune._checks.trees import bad_regex as bad_regex
from jprune._checks.trees import bad_where as bad_where
from jprune._checks.trees import empty_tree as empty_tree
from jprune._checks.trees import not_floating as not_floating
from jprune._checks.trees import nothing_selected as nothing_selected
from jprune._checks.trees import other_structure as other_structure
from jprune._checks.words import kind as kind
from jprune._checks.words import listed as listed
from jprune._checks.words import message as message
