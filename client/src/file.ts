/**
 * Opens a file, for Node. It is read while it is sent; if it changes in the meantime, the upload fails.
 * @throws Error that says why the file cannot be sent
 */
export async function openFile(path: string | URL): Promise<Blob> {
  const { openAsBlob } = await import('node:fs')
  const { stat, access } = await import('node:fs/promises')
  try {
    const stats = await stat(path)
    if (stats.isDirectory()) throw new Error(`${path} is a directory: name one MP4 file`)
    if (!stats.isFile()) throw new Error(`${path} is not a regular file: send it as a stream`)
    await access(path, 4)
    return await openAsBlob(path as string)
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    if (code === undefined) throw error
    const reasons: Record<string, string> = { ENOENT: 'there is no such file', EACCES: 'permission denied' }
    throw new Error(`${path} cannot be read: ${reasons[code] ?? message}`, { cause: error })
  }
}
