/** What a download needs of the browser's storage, what there is as far as it tells, and whether it promised to keep it. */
import { signal } from '@preact/signals';
import { formatBytes } from '../format';

export interface StorageSpace {
  /** Of the model's files, not yet stored. */
  readonly neededBytes: number;
  /** Of this page's origin. */
  readonly usedBytes: number;
  /** As the browser estimates it; null when it does not say. */
  readonly freeBytes: number | null;
}

export const storageSpace = signal<StorageSpace | null>(null);
/** The browser's answer to the request not to clear this page's storage; null before it was asked. */
export const isPersistent = signal<boolean | null>(null);

/**
 * Chromium reports at most 10 GiB more than what is used, whatever the disk holds: an estimate of that size says nothing.
 */
const artificialFreeBytes = 10 * 2 ** 30;

/** Reads the browser's estimate for a download of `neededBytes`. */
export async function readStorageSpace(neededBytes: number): Promise<void> {
  try {
    const { usage = 0, quota } = await navigator.storage.estimate();
    const freeBytes = quota === undefined ? null : Math.max(0, quota - usage);
    storageSpace.value = { neededBytes, usedBytes: usage, freeBytes };
  } catch {
    storageSpace.value = { neededBytes, usedBytes: 0, freeBytes: null }; // storage is forbidden; loading reports that
  }
}

/** Asks the browser, once, not to evict the stored models. Nothing depends on its answer. */
export async function askToPersist(): Promise<void> {
  if (isPersistent.value !== null) return;
  try {
    isPersistent.value = (await navigator.storage.persisted()) || (await navigator.storage.persist());
  } catch {
    isPersistent.value = false;
  }
}

/** What the download takes, in words. */
export function spaceText({ neededBytes, usedBytes }: StorageSpace): string {
  return `Needs ${formatBytes(neededBytes)} of storage; this page uses ${formatBytes(usedBytes)} so far.`;
}

/** A warning where the estimate is clearly too small; null otherwise. The download goes on: estimates are often wrong. */
export function spaceWarning({ neededBytes, freeBytes }: StorageSpace): string | null {
  if (freeBytes === null || freeBytes >= neededBytes || freeBytes >= 0.99 * artificialFreeBytes) return null;
  return `The browser estimates that ${formatBytes(freeBytes)} are left. The model will run, but may not be kept for the next visit: delete a stored model to make room.`;
}

export function persistenceText(persistent: boolean): string {
  return persistent
    ? 'The browser keeps these files until you delete them.'
    : 'The browser may clear these files when space runs out.';
}
