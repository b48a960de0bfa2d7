# Java: threads, four collectors, the compiler, HTTP, processes, errors.
# soak
# memory 1500
# seconds 5400
java -version 2>&1 | grep -c VM
cat > T.java <<'X'
import java.util.*; import java.util.concurrent.*; import java.util.stream.*; import java.nio.file.*; import java.net.*; import java.net.http.*; import com.sun.net.httpserver.*;
public class T { public static void main(String[] a) throws Exception {
 ExecutorService e=Executors.newFixedThreadPool(8); List<Future<Long>> f=new ArrayList<>();
 for(int i=0;i<8;i++){int n=i; f.add(e.submit(()->{long s=0; for(int r=0;r<20;r++){ byte[][] b=new byte[100][]; for(int j=0;j<100;j++){b[j]=new byte[10000]; s+=b[j].length+n;} } return s;}));}
 for(var x:f) System.out.println(x.get()); e.shutdown(); System.gc();
 System.out.println(IntStream.range(0,100000).parallel().mapToLong(x->x*2L).sum());
 Path p=Files.createTempFile("x","y"); Files.writeString(p,"hello"); System.out.println(Files.readString(p)+Files.size(p)); Files.delete(p);
 HttpServer s=HttpServer.create(new InetSocketAddress("127.0.0.1",0),0); s.createContext("/",x->{byte[] b="answer".getBytes(); x.sendResponseHeaders(200,b.length); x.getResponseBody().write(b); x.close();}); s.start();
 var r=HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:"+s.getAddress().getPort()+"/")).build(),HttpResponse.BodyHandlers.ofString()); System.out.println(r.statusCode()+r.body()); s.stop(0);
 Process q=new ProcessBuilder("sh","-c","cat; exit 3").start(); q.getOutputStream().write("to child".getBytes()); q.getOutputStream().close(); System.out.println(new String(q.getInputStream().readAllBytes())+q.waitFor());
 Object o=null; try { o.hashCode(); } catch (NullPointerException z) { System.out.println("NPE"); }
 try { rec(0); } catch (StackOverflowError z) { System.out.println("SOE"); }
 try { List<byte[]> l=new ArrayList<>(); for(;;) l.add(new byte[10000000]); } catch (OutOfMemoryError z) { System.out.println("OOM"); }
 Runtime.getRuntime().addShutdownHook(new Thread(()->System.out.println("hook"))); System.exit(9); }
 static int rec(int n){ return rec(n+1)+1; } }
X
java -Xmx200m T.java; echo $?; javac -d . T.java && java -Xmx200m -XX:+UseParallelGC T; echo $?; java -Xmx200m -XX:+UseZGC T; echo $?;  java -Xmx200m -XX:+UseSerialGC -Xint T; echo $?
