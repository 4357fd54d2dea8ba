/** Which build measured. */
import { version } from '../package.json';

export interface BuildId {
  /** Of the package. */
  readonly version: string;
  /** The first digits of the commit that it was built from, or `unknown`: not from a checkout. */
  readonly commit: string;
  /** Whether its sources differed from that commit. */
  readonly isDirty: boolean;
}

/** Set by the build (scripts/build-id.ts). */
declare const __CHECKOUT__: { readonly commit: string; readonly isDirty: boolean } | null | undefined;

const checkout = typeof __CHECKOUT__ === 'undefined' ? null : __CHECKOUT__;

/** This build. */
export const buildId: BuildId = { version, ...(checkout ?? { commit: 'unknown', isDirty: false }) };

/** E.g. `0.1.0, commit 0123456789ab with changes`; files from before builds were noted have none. */
export function buildText(build: BuildId | undefined): string {
  if (!build) return 'not noted';
  return `${build.version}, commit ${build.commit}${build.isDirty ? ' with changes' : ''}`;
}

/** Whether two builds are of one commit; null where one of them does not tell, or is of more than its commit. */
export function isSameBuild(a: BuildId | undefined, b: BuildId | undefined): boolean | null {
  const [first, second] = [wholeCommit(a), wholeCommit(b)];
  return first && second ? first === second : null;
}

function wholeCommit(build: BuildId | undefined): string | null {
  return build && build.commit !== 'unknown' && !build.isDirty ? build.commit : null;
}
