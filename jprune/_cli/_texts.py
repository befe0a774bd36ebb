"""What ``--help`` says around the options; ``PROGRAM`` stands for how it was started."""

ABOUT = 'Tally, prune and report on checkpoints of any size, one leaf in memory at a time.'
EPILOG = """\
files:
  safetensors of any library, one or a folder of them with their index; .npz; .msgpack of Flax;
  folders of Orbax. What holds pickles (.pt, .bin, ...) is refused with the lines that convert it.

examples:
  PROGRAM tally model.safetensors
  PROGRAM prune model.safetensors sparse.safetensors --sparsity 0.5 --dry-run
  PROGRAM prune llama/ llama-sparse/ --sparsity 0.5 --distribution global
  PROGRAM report llama-sparse/ --html report.html

completion of what is typed, once for good:
  bash  PROGRAM --print-completion bash > ~/.local/share/bash-completion/completions/jprune
  zsh   PROGRAM --print-completion zsh > ~/.zfunc/_jprune    (a folder of fpath)
  fish  PROGRAM --print-completion fish > ~/.config/fish/completions/jprune.fish

exit codes:
  0  done
  1  refused or failed, said on the standard error; nothing was written
  2  the arguments make no sense
  129, 130, 143  hung up on, interrupted, terminated; nothing was written
"""
TALLY = """\
Counts the zeros of every leaf: shape, dtype, sparsity, bytes as they are and as the smallest
sparse format would store them. A file that jprune wrote with masks is counted by its masks.
All files of a folder, an index or a glob are one model.
"""
TALLY_EPILOG = """\
examples:
  PROGRAM tally model.safetensors
  PROGRAM tally 'llama/*.safetensors' --json
"""
PRUNE = """\
Sets a fraction of the weights of IN to zero and writes OUT, which appears whole or not at all.
Exactly as many weights go as asked; the masks are those of jprune.prune on the loaded file.
If IN is a folder, its files are one model and OUT is a folder of the same files, with what lies
beside them (config.json, the tokenizer); an OUT that ends with .safetensors is one file.
OUT is of safetensors, whatever IN is.
"""
PRUNE_EPILOG = """\
what is pruned:
  by default all floating leaves with two axes longer than 1 but biases, norms, class tokens,
  position tables and running statistics, as far as names tell; the others are copied, and the
  table says why. --where narrows that; a leaf's exact path chooses it whatever it is. int8 and
  float8 weights are ranked with their scales, which are never pruned. --dry-run says which
  leaves that is.

which axis groups lie along:
  --axis, where it is not given, follows the file: 1 if its metadata says format=pt, so kernels
  are (out, in, ...), but 0 of the Conv1D of GPT-2, (in, out); -1 for format=mlx; -2 for
  format=flax or tf and for what jprune, Flax or Orbax wrote, (..., in, out). A file that says
  nothing needs it.

examples:
  PROGRAM prune in.safetensors out.safetensors --sparsity 0.9 --distribution erk
  PROGRAM prune in.safetensors out.safetensors --n-of-m 2:4 --format dense
  PROGRAM prune in.safetensors out.safetensors --sparsity 0.5 --where 'mlp.*weight$'
  PROGRAM prune llama/ sparse/ --n-of-m 2:4 --format dense --where 'layers.*(mlp|attn)'
  PROGRAM prune in.safetensors out.safetensors --sparsity 0.5 \\
    --where '^(?!.*(embed|wte|lm_head|classifier))'     all but embeddings and heads
"""
REPORT = """\
The tally, and bars: how sparse each layer is, how sparse each kind of leaf (attention, mlp,
embedding, norm, ...), and how many leaves are how sparse. Layers and kinds are told by names and
shapes. On the terminal, or with --html as one page that needs nothing beside it.
"""
REPORT_EPILOG = """\
examples:
  PROGRAM report sparse.safetensors
  PROGRAM report llama-sparse/ --html report.html
"""
INPUT = (
  'a safetensors file of any library; a folder of such files, its index, a glob or a list of them; '
  'an .npz file; a .msgpack file of Flax; or a folder of Orbax'
)
