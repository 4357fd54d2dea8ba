// Which browser the tests drive, and how to get one: $CHROME, an installed one, or Playwright's own.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chromium } from 'playwright';

const installed = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/usr/bin/google-chrome-stable',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];

/** Path of a Chromium to drive, or null when this machine has none. */
export function findBrowser() {
  if (process.env.CHROME) return process.env.CHROME;
  const candidates = [...installed, chromium.executablePath()];
  return candidates.find((path) => existsSync(path)) ?? null;
}

/** The Vulkan loader that Dawn for Node needs; without it the kernel tests cannot open a device. */
function hasVulkanLoader() {
  if (process.platform !== 'linux') return true;
  try {
    return execFileSync('ldconfig', ['-p'], {
      encoding: 'utf8',
      env: { PATH: `${process.env.PATH}:/sbin:/usr/sbin` },
    }).includes('libvulkan.so.1');
  } catch {
    return true; // no ldconfig: let Dawn find out
  }
}

function commandExists(name) {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(`${folder}/${name}`));
}

/** Installs Debian's chromium (with its software GPU) and Vulkan loader when they are missing and apt is there. */
export function ensureBrowser() {
  const missing = [
    ...(findBrowser() ? [] : ['chromium', 'fonts-dejavu-core']),
    ...(hasVulkanLoader() ? [] : ['libvulkan1']),
  ];
  if (missing.length === 0) return;
  if (process.platform !== 'linux' || !commandExists('apt-get')) {
    console.warn(`missing: ${missing.join(', ')}; install a Chromium or name one in CHROME`);
    return;
  }
  const sudo = process.getuid?.() === 0 ? [] : ['sudo'];
  const apt = (...args) => {
    const [command, ...rest] = [...sudo, 'apt-get', '-qq', ...args];
    execFileSync(command, rest, {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  };
  console.log(`installing ${missing.join(', ')}`);
  apt('update');
  apt('install', '-y', '--no-install-recommends', ...missing);
}
