/**
 * GPTQ's rounding of a row on asymmetric levels with a step and a zero point per group, in the triangular form of gptq.ts:
 * ‖t − v·U‖² over values v on the levels. A group's levels are fitted when its first column is reached, to the values that
 * would leave no error given the columns rounded before it; column j's error then counts U_jj².
 */
import { storableStep } from '../format/weight-grid';
import { type AsymmetricGrid, fitLevels, type GroupLevels, nearestCode } from './asymmetric';
import { dot, type Factor } from './triangular';

export interface GridRow {
  /** In the factor's order. */
  readonly codes: Float64Array;
  readonly levels: readonly GroupLevels[];
  readonly loss: number;
}

/** Group of each column in the factor's order, and whether groups are runs of columns there. */
interface Grouping {
  readonly groupOf: Uint32Array;
  readonly count: number;
  readonly inRuns: boolean;
}

function grouping({ order }: Factor, { groupSize }: AsymmetricGrid): Grouping {
  const groupOf = order.map((column) => (groupSize === null ? 0 : Math.floor(column / groupSize)));
  const count = groupOf.reduce((most, group) => Math.max(most, group), 0) + 1;
  return { groupOf, count, inRuns: groupOf.every((group, j) => j === 0 || group >= groupOf[j - 1]!) };
}

/** Levels for every group with columns in [from, to), fitted to the values that would leave no error there. */
function fitAhead(
  targets: Float64Array,
  values: Float64Array,
  factor: Factor,
  { groupOf }: Grouping,
  [from, to]: readonly [number, number],
  bits: AsymmetricGrid['bits'],
  found: (group: number, levels: GroupLevels) => void,
): void {
  const { transposed, diagonal } = factor;
  const K = targets.length;
  const members = new Map<number, number[]>();
  for (let j = from; j < to; j++) {
    values[j] =
      diagonal[j]! > 0 ? (targets[j]! - dot(values, transposed, j * K, j)) / transposed[j * K + j]! : 0;
    const group = groupOf[j]!;
    if (!members.has(group)) members.set(group, []);
    members.get(group)!.push(j);
  }
  for (const [group, columns] of members) {
    const weights = columns.map((j) => (diagonal[j]! > 0 ? transposed[j * K + j]! ** 2 : 0));
    found(
      group,
      fitLevels(
        columns.map((j) => values[j]!),
        weights,
        bits,
      ),
    );
  }
}

/** Rounds column after column. `given`: levels to keep to; else they are fitted on the way. */
function roundOnLevels(
  targets: Float64Array,
  factor: Factor,
  groups: Grouping,
  bits: AsymmetricGrid['bits'],
  given: readonly GroupLevels[] | null,
): { readonly codes: Float64Array; readonly levels: GroupLevels[] } {
  const K = targets.length;
  const { transposed, diagonal } = factor;
  const { groupOf } = groups;
  const values = new Float64Array(K);
  const codes = new Float64Array(K);
  const levels: GroupLevels[] = given ? [...given] : [];
  for (let j = 0; j < K; j++) {
    const group = groupOf[j]!;
    if (!levels[group]) {
      let to = groups.inRuns ? j : K;
      while (to < K && groupOf[to] === group) to++;
      fitAhead(targets, values, factor, groups, [j, to], bits, (at, fitted) => {
        levels[at] = fitted;
      });
    }
    const own = levels[group]!;
    const wanted =
      diagonal[j]! > 0 ? (targets[j]! - dot(values, transposed, j * K, j)) / transposed[j * K + j]! : 0;
    codes[j] = nearestCode(wanted, own, bits);
    values[j] = own.step * codes[j]!;
  }
  return { codes, levels };
}

/** The steps that fit given codes best, by coordinate descent on ‖t − Σ_g step_g·c_g·U‖²; with the loss they reach. */
function refitSteps(
  targets: Float64Array,
  { transposed }: Factor,
  { groupOf, count }: Grouping,
  codes: Float64Array,
  levels: readonly GroupLevels[],
): { readonly levels: GroupLevels[]; readonly loss: number } {
  const K = targets.length;
  const gram = new Float64Array(count * count);
  const cross = new Float64Array(count);
  const part = new Float64Array(count); // component j of c_g·U
  let norm = 0;
  for (let j = 0; j < K; j++) {
    part.fill(0);
    for (let i = 0, at = j * K; i <= j; i++, at++) part[groupOf[i]!]! += codes[i]! * transposed[at]!;
    for (let g = 0; g < count; g++) {
      cross[g]! += part[g]! * targets[j]!;
      for (let h = 0; h < count; h++) gram[g * count + h]! += part[g]! * part[h]!;
    }
    norm += targets[j]! ** 2;
  }
  const steps = Float64Array.from(levels, ({ step }) => step);
  for (let sweep = 0; sweep < 8; sweep++) {
    for (let g = 0; g < count; g++) {
      let rest = cross[g]!;
      for (let h = 0; h < count; h++) if (h !== g) rest -= gram[g * count + h]! * steps[h]!;
      if (rest > 0 && gram[g * count + g]! > 0) steps[g] = storableStep(rest / gram[g * count + g]!);
    }
  }
  let loss = norm;
  for (let g = 0; g < count; g++) {
    loss -= 2 * steps[g]! * cross[g]!;
    for (let h = 0; h < count; h++) loss += steps[g]! * steps[h]! * gram[g * count + h]!;
  }
  return { levels: levels.map(({ zero }, g) => ({ step: steps[g]!, zero })), loss };
}

/** Rounds one row twice, the second time on the steps that the first fitted, and keeps the better. */
export function roundRowOnGrid(targets: Float64Array, factor: Factor, grid: AsymmetricGrid): GridRow {
  const groups = grouping(factor, grid);
  let best: GridRow | null = null;
  for (let pass = 0; pass < 2; pass++) {
    const { codes, levels } = roundOnLevels(targets, factor, groups, grid.bits, best?.levels ?? null);
    const row = { codes, ...refitSteps(targets, factor, groups, codes, levels) };
    if (!best || row.loss < best.loss) best = row;
  }
  return best!;
}
