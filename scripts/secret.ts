import { generateGatewaySecret } from '../src/auth/gateway-secret.ts'

if (process.argv.length > 2) {
  console.error(
    'usage: npm run secret, without arguments; npm run -s secret >> .env adds it to the configuration',
  )
  process.exitCode = 2
} else console.log(`GATEWAY_SECRET=${generateGatewaySecret()}`)
