import { Type } from '@sinclair/typebox'
import { isAddress } from './formats.ts'

/** Addresses, in addition to public ones, and ports that webhooks may call. */
export interface WebhookConfig {
  /** Addresses and networks, such as `10.0.0.0/8`. */
  networks: string[]
  ports: number[]
}

/** The variables for webhooks to endpoints that clients choose. */
export const webhookVariables = {
  WEBHOOK_NETWORKS: entries(
    '',
    'IP addresses or networks, comma-separated, that webhooks may call in addition to public addresses: `10.0.0.0/8`',
    isAddress,
    'an IP address or a network such as 10.0.0.0/8',
    String,
  ),
  WEBHOOK_PORTS: entries(
    '443',
    'ports that webhooks may call, comma-separated',
    isPort,
    'a port from 1 to 65535',
    Number,
  ),
}

/** Values, comma-separated. An invalid one is named by its position: no value is printed. */
function entries<T>(
  defaultValue: string,
  description: string,
  isValid: (text: string) => boolean,
  expected: string,
  read: (text: string) => T,
) {
  return Type.Transform(Type.String({ default: defaultValue, description }))
    .Decode((text) => {
      const parts = text.split(',').map((part) => part.trim())
      if (text.trim() === '') return []
      const wrong = parts.flatMap((part, index) => (isValid(part) ? [] : [index + 1]))
      if (wrong.length > 0)
        throw new Error(`${wrong.map((position) => `entry ${position}`).join(', ')}: expected ${expected}`)
      return parts.map(read)
    })
    .Encode(String)
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535
}
