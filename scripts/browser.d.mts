/** Path of a Chromium to drive, or null when this machine has none. */
export function findBrowser(): string | null;
/** Installs a browser where it is missing and can be installed. */
export function ensureBrowser(): void;
