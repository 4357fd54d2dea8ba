/** Where bad input was found, what was expected there and what came. */
export interface FormatProblem {
  readonly file: string;
  /** Tensor, field or path inside the file; empty when the file as a whole is meant. */
  readonly where: string;
  readonly expected: string;
  readonly found: string;
}

/** Base of every error that this room throws for bad data. */
export class FormatError extends Error {
  override name = 'FormatError';
}

/** A {@link FormatError} with its place: reads "file: where: expected …, found …". */
export class LocatedError extends FormatError {
  override name = 'LocatedError';
  readonly file: string;
  readonly where: string;
  readonly expected: string;
  readonly found: string;

  constructor(problem: FormatProblem) {
    const place = problem.where === '' ? problem.file : `${problem.file}: ${problem.where}`;
    super(`${place}: expected ${problem.expected}, found ${problem.found}`);
    this.file = problem.file;
    this.where = problem.where;
    this.expected = problem.expected;
    this.found = problem.found;
  }
}

/** A safetensors file whose header is wrong or does not describe the file; `where` is the tensor. */
export class SafetensorsError extends LocatedError {
  override name = 'SafetensorsError';
}

/** A config.json that this engine cannot run; `where` is the field. */
export class ConfigError extends LocatedError {
  override name = 'ConfigError';
}

/** A manifest.json that is wrong or contradicts its shards; `where` is the path, such as `quant.layers[3].oAct`. */
export class ManifestError extends LocatedError {
  override name = 'ManifestError';
}

/** Shows a value of unknown origin in an error message: JSON, cut to `limit` characters. */
export function shown(value: unknown, limit = 80): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > limit ? `${text.slice(0, limit)}…` : text;
}
